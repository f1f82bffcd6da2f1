"""What a Pod can count on when a process node runs it."""

import json
import signal
import urllib.request

from lull.local import processes

SERVE = """
import http.server, os, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if os.path.exists('/state/sick') else 200); self.end_headers()
        if self.path == '/sick': open('/state/sick', 'w').close()
http.server.HTTPServer((os.environ['POD_IP'], 8000), Handler).serve_forever()
"""
POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
STATE = {"name": "state", "mountPath": "/state"}
EMPTY = {"name": "state", "emptyDir": {}}
FOREVER = "import time\nwhile True: time.sleep(0.1)"


def serving(container, **probes):
    # The script travels in an argument, so that its mountPath is replaced there as well.
    return container(SERVE, env=[POD_IP], volumeMounts=[STATE], **probes)


def probe(path="/", period_seconds=1, **more):
    return {"httpGet": {"path": path, "port": 8000}, "periodSeconds": period_seconds, **more}


def test_pods_become_ready_each_at_its_own_address(space, container):
    for name in ("one", "two"):
        space.pod(name, serving(container, readinessProbe=probe()), volumes=[EMPTY])
    addresses = set()
    for name in ("one", "two"):
        space.wait(name, "condition=Ready")
        pod = space.get(name)
        assert pod["status"]["hostIP"] == space.cluster.address
        addresses.add(pod["status"]["podIP"])
    assert len(addresses) == 2
    for address in addresses:
        assert urllib.request.urlopen(f"http://{address}:8000/", timeout=5).status == 200


def test_readiness_follows_the_probe(space, container):
    ready = probe(failureThreshold=1)
    space.pod("turns", serving(container, readinessProbe=ready), volumes=[EMPTY])
    space.wait("turns", "condition=Ready")
    address = space.get("turns")["status"]["podIP"]
    urllib.request.urlopen(f"http://{address}:8000/sick", timeout=5)
    space.wait("turns", "condition=Ready=false")
    assert space.status("turns")["restartCount"] == 0


def test_a_failed_liveness_probe_restarts_the_container(space, container):
    live = probe(failureThreshold=1)
    script = f"import os; os.path.exists('/state/sick') and os.remove('/state/sick')\n{SERVE}"
    main = container(script, env=[POD_IP], volumeMounts=[STATE], readinessProbe=probe(), livenessProbe=live)
    main["livenessProbe"]["initialDelaySeconds"] = 1
    space.pod("sick", main, volumes=[EMPTY])
    space.wait("sick", "condition=Ready")
    address = space.get("sick")["status"]["podIP"]
    urllib.request.urlopen(f"http://{address}:8000/sick", timeout=5)
    space.wait("sick", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    space.wait("sick", "condition=Ready")


def test_the_environment_comes_from_everything_that_kubernetes_knows(space, container):
    space.create("ConfigMap", "conf", {"data": {"GREETING": "hello", "OTHER": "there"}})
    space.create("Secret", "hidden", {"stringData": {"word": "s3cret"}})
    env = [
        POD_IP,
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "GREETING"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        {"name": "BOTH", "value": "$(ONE) $(C_OTHER) $(NOT_THERE) $$(ONE)"},
        {"name": "PLACE", "value": "/state/file"},
    ]
    main = container(
        "import os,json,sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))",
        args=["$(WORD)", "--folder=/state/x"],
        env=env,
        envFrom=[{"prefix": "C_", "configMapRef": {"name": "conf"}}],
        resources={"limits": {"memory": "64Mi"}},
        volumeMounts=[STATE],
    )
    found, words = json.loads(space.run("env", main, volumes=[EMPTY]))
    assert found["POD_IP"] == space.get("env")["status"]["podIP"]
    assert (found["NAME"], found["NODE"]) == ("env", space.get("env")["spec"]["nodeName"])
    assert found["MEMORY"] == str(64 * 2**20)
    assert found["BOTH"] == "hello there $(NOT_THERE) $(ONE)"
    assert found["FROM_IMAGE"] == "yes"
    assert words[0] == "s3cret"
    folder = found["PLACE"].removesuffix("/file")
    assert folder.startswith(str(space.cluster.folder))
    assert words[1] == f"--folder={folder}/x"
    assert "VIRTUAL_ENV" not in found, "the environment of whoever started the cluster must not leak in"


def test_volumes_are_folders_with_their_contents(space, container):
    space.create("ConfigMap", "conf", {"data": {"a": "1", "b": "2"}})
    space.create("Secret", "hidden", {"stringData": {"word": "s3cret"}})
    projected = [
        {"configMap": {"name": "conf", "items": [{"key": "b", "path": "deep/b"}]}},
        {"secret": {"name": "hidden"}},
        {"downwardAPI": {"items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    volumes = [
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "all", "projected": {"sources": projected}},
        EMPTY,
    ]
    script = (
        "import pathlib, json; read = lambda p: pathlib.Path(p).read_text()\n"
        "pathlib.Path('/state/new').write_text('x')\n"
        "print(json.dumps([read(p) for p in ('/conf/a', '/conf/b', '/all/deep/b', '/all/word', '/all/me')]))"
    )
    mounts = [{"name": "conf", "mountPath": "/conf"}, {"name": "all", "mountPath": "/all"}, STATE]
    log = space.run("reads", container(script, volumeMounts=mounts), volumes=volumes)
    assert json.loads(log) == ["1", "2", "2", "s3cret", "reads"]


def test_a_claim_gives_the_folder_of_its_persistent_volume(space, container, tmp_path):
    (tmp_path / "there").write_text("on the host")
    source = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "hostPath": {"path": str(tmp_path)},
    }
    claim = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "",
    }
    space.create("PersistentVolume", space.name, {"spec": source})
    space.create("PersistentVolumeClaim", "files", {"spec": {**claim, "volumeName": space.name}})
    main = container("print(open('/state/there').read())", volumeMounts=[STATE])
    volumes = [{"name": "state", "persistentVolumeClaim": {"claimName": "files"}}]
    assert space.run("claims", main, volumes=volumes).strip() == "on the host"
    space.kubectl("delete", "pod/claims", "persistentvolumeclaim/files", f"persistentvolume/{space.name}")


def test_the_service_account_token_is_that_of_the_pod(space, container):
    main = container("") | {"command": ["kubectl", "auth", "whoami", "-o", "json"]}
    who = json.loads(space.run("who", main))["status"]["userInfo"]
    assert who["username"] == f"system:serviceaccount:{space.name}:default"
    assert who["extra"]["authentication.kubernetes.io/pod-name"] == ["who"]


def test_a_pod_that_mounts_no_token_has_no_api_access(space, container):
    main = container("import os; print('KUBECONFIG' in os.environ)")
    assert space.run("none", main, automountServiceAccountToken=False).strip() == "False"


def test_a_crashing_container_is_restarted_and_then_backed_off(space, container):
    space.pod("crash", container("raise SystemExit(3)"))
    space.wait("crash", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff")
    status = space.status("crash")
    assert status["restartCount"] >= 1
    assert status["lastState"]["terminated"]["exitCode"] == 3


def test_a_deleted_pod_may_finish_within_its_grace(space, container, tmp_path):
    script = (
        "import signal, sys, time, pathlib\n"
        "def end(*_): time.sleep(1); pathlib.Path('/state/ended').write_text('well'); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, end)\npathlib.Path('/state/began').touch()\n{FOREVER}"
    )
    volume = {"name": "state", "hostPath": {"path": str(tmp_path)}}
    began = {"exec": {"command": ["test", "-e", "/state/began"]}, "periodSeconds": 1}
    space.pod("graceful", container(script, volumeMounts=[STATE], readinessProbe=began), volumes=[volume])
    space.wait("graceful", "condition=Ready")
    space.kubectl("delete", "pod", "graceful")
    assert (tmp_path / "ended").read_text() == "well"


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(space, container, eventually, tmp_path):
    script = (
        "import pathlib, signal\n"
        "def stay(*_): pathlib.Path('/state/told').touch()\n"
        f"signal.signal(signal.SIGTERM, stay); print('deaf', flush=True)\n{FOREVER}"
    )
    volume = {"name": "state", "hostPath": {"path": str(tmp_path)}}
    space.pod("deaf", container(script, volumeMounts=[STATE]), volumes=[volume])
    space.wait("deaf", "condition=Ready")
    eventually(lambda: "deaf" in space.kubectl("logs", "deaf"))
    # Sooner than its own grace, 30 s, would end: it is the one asked for that counts.
    space.kubectl("delete", "pod", "deaf", "--grace-period=2", "--timeout=20s")
    assert (tmp_path / "told").exists(), "it was killed without having been told to end"


def test_a_sidecar_starts_before_the_containers_and_ends_after_them(space, container, tmp_path):
    def program(name, more=""):
        return (
            "import signal, sys, time\n"
            f"def note(what): open('/state/notes', 'a').write('{name} ' + what + chr(10))\n"
            "def end(*_): note('ends'); sys.exit(0)\n"
            f"signal.signal(signal.SIGTERM, end)\n{more}\nnote('began')\n{FOREVER}"
        )

    mounts = {"volumeMounts": [STATE]}
    began = {"exec": {"command": ["grep", "-q", "side began", "/state/notes"]}, "periodSeconds": 1}
    side = container(
        program("side", "time.sleep(0.5)"), "side", restartPolicy="Always", startupProbe=began, **mounts
    )
    first = container("open('/state/notes', 'a').write('first ran' + chr(10))", "first", **mounts)
    ready = {"exec": {"command": ["grep", "-q", "main began", "/state/notes"]}, "periodSeconds": 1}
    main = container(program("main"), readinessProbe=ready, **mounts)
    volume = {"name": "state", "hostPath": {"path": str(tmp_path)}}
    space.pod("ordered", main, initContainers=[first, side], volumes=[volume])
    space.wait("ordered", "condition=Ready")
    space.kubectl("delete", "pod", "ordered")
    notes = (tmp_path / "notes").read_text().splitlines()
    assert notes == ["first ran", "side began", "main began", "main ends", "side ends"]


def test_a_sidecar_that_ends_is_started_again_and_the_containers_go_on(space, container):
    side = container("import time; time.sleep(1)", "side", restartPolicy="Always")
    space.pod("steady", container(FOREVER), initContainers=[side])
    space.wait("steady", "condition=Ready")
    space.wait("steady", "jsonpath={.status.initContainerStatuses[0].restartCount}=1")
    assert space.status("steady")["restartCount"] == 0


def test_an_init_container_that_fails_for_good_fails_the_pod(space, container):
    first = container("raise SystemExit(1)", "first")
    space.pod("never", container(FOREVER), initContainers=[first], restartPolicy="Never")
    space.wait("never", "jsonpath={.status.phase}=Failed")
    assert "running" not in space.status("never")["state"]


def test_bad_pods_say_what_is_wrong_and_harm_no_other(space, container, eventually):
    space.pod("unknown", container(FOREVER) | {"image": "no/such:1"})
    space.pod("commandless", container(FOREVER) | {"command": ["no-such-program"]})
    space.pod("unset", container(FOREVER, envFrom=[{"configMapRef": {"name": "later"}}]))
    space.pod("good", container(FOREVER))
    space.wait("good", "condition=Ready")
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    space.wait("unknown", f"{reason}=ErrImagePull")
    assert "test/python" in space.waiting("unknown")["message"]
    space.wait("commandless", f"{reason}=CrashLoopBackOff")
    assert "no-such-program" in space.status("commandless")["lastState"]["terminated"]["message"]
    space.wait("unset", f"{reason}=CreateContainerConfigError")
    assert "later" in space.waiting("unset")["message"]
    space.create("ConfigMap", "later", {"data": {"x": "y"}})
    space.wait("unset", "condition=Ready")


def test_a_volume_that_is_not_there_yet_is_waited_for(space, container, eventually):
    volumes = [{"name": "state", "configMap": {"name": "later"}}]
    space.pod("waits", container(FOREVER, volumeMounts=[STATE]), volumes=volumes)
    eventually(lambda: "later" in space.waiting("waits").get("message", ""))
    space.create("ConfigMap", "later", {"data": {}})
    space.wait("waits", "condition=Ready")


def test_simulated_gpus_are_counted_by_the_scheduler(space, container):
    def wants(gpus):
        return container(FOREVER, resources={"limits": {"nvidia.com/gpu": str(gpus)}})

    space.pod("three", wants(3))
    space.pod("two", wants(2))
    space.wait("two", "condition=Ready")
    assert space.get("two")["spec"]["nodeName"] == "gpu-0"
    space.wait("three", "condition=PodScheduled=false")


def test_a_deployment_keeps_its_replicas(space, container, eventually):
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [serving(container, readinessProbe=probe())], "volumes": [EMPTY]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    space.create("Deployment", "web", {"spec": spec}, "apps/v1")
    space.kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
    victim = space.cluster.get("-n", space.name, "pods")["items"][0]["metadata"]["name"]
    space.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
    eventually(lambda: _ready_replicas(space) == 2 and victim not in space.kubectl("get", "pods"))


def _ready_replicas(space):
    return space.cluster.get("-n", space.name, "deployment", "web")["status"].get("readyReplicas", 0)


def test_pods_are_started_anew_when_the_node_program_was_killed(space, container, eventually):
    cluster = space.cluster
    space.pod("survivor", container(FOREVER))
    space.wait("survivor", "condition=Ready")
    old = processes.Record.load(cluster.folder / "run" / "nodes.json")
    (left,) = [r for r in processes.strays(cluster.folder) if _command(r.pid).endswith(FOREVER)]
    old.signal_group(signal.SIGKILL)
    assert processes.wait_ended([old], 10)

    cluster.up()

    assert processes.wait_ended([left], 10), "what the killed program had started is ended"
    space.wait("survivor", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    space.wait("survivor", "condition=Ready")
    assert len([r for r in processes.strays(cluster.folder) if _command(r.pid).endswith(FOREVER)]) == 1


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read().rstrip("\0")
    except OSError:
        return ""


def test_hooks_run_after_the_start_and_before_the_end(space, container, tmp_path):
    def note(what):
        return {"exec": {"command": ["sh", "-c", f"echo {what} >> /state/notes"]}}

    hooks = {"lifecycle": {"postStart": note("started"), "preStop": note("stopping")}}
    volume = {"name": "state", "hostPath": {"path": str(tmp_path)}}
    space.pod("hooked", container(FOREVER, volumeMounts=[STATE], **hooks), volumes=[volume])
    space.wait("hooked", "condition=Ready")
    space.kubectl("delete", "pod", "hooked")
    assert (tmp_path / "notes").read_text().split() == ["started", "stopping"]


def test_the_end_of_the_log_says_why_a_container_ended(space, container):
    script = "raise SystemExit('no such model')"
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    space.pod("says", container(script, **policy), restartPolicy="Never")
    space.wait("says", "jsonpath={.status.phase}=Failed")
    assert "no such model" in space.status("says")["state"]["terminated"]["message"]
