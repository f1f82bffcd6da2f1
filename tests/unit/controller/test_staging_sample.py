"""The sample of staging says what the API and the hosts' pods take."""

import yaml

from lull.api.pool import ModelPool
from lull.cli.stack import ROOT
from lull.controller.hostpod import host_pod


def test_the_sample_s_pool_claims_the_sample_s_volume():
    volume, claim, pool = yaml.safe_load_all((ROOT / "manifests" / "samples" / "staging.yaml").read_text())
    ModelPool.model_validate({"spec": pool["spec"]})
    assert volume["spec"]["claimRef"] == claim["metadata"]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert "nodeAffinity" not in volume["spec"], "each node has its own"
    host = {"metadata": {"name": "h", "uid": "u"}, "spec": {"pool": "staged", "models": []}}
    [store] = [v for v in host_pod(host, pool, "image")["spec"]["volumes"] if v["name"] == "store"]
    assert store["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
