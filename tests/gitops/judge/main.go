// What the real tools say of an object: kstatus, by which Flux and others tell whether it is done;
// its health script, in Argo CD's interpreter and with the libraries that Argo CD opens; and the
// difference that Argo CD's classic comparison sees between it and the manifest it was applied from.
//
// Reads one question from standard input and answers on standard output, both JSON.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
)

type question struct {
	Object   unstructured.Unstructured `json:"object"`
	Script   string                    `json:"script"`
	Manifest json.RawMessage           `json:"manifest"`
}

type answer struct {
	Kstatus string            `json:"kstatus"`
	Message string            `json:"message"`
	Health  map[string]string `json:"health"`
	Drift   json.RawMessage   `json:"drift"`
}

func main() {
	var asked question
	must(json.NewDecoder(os.Stdin).Decode(&asked))
	done, err := status.Compute(&asked.Object)
	must(err)
	told := answer{
		Kstatus: string(done.Status),
		Message: done.Message,
		Health:  health(asked),
		Drift:   drift(asked),
	}
	must(json.NewEncoder(os.Stdout).Encode(told))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func drift(asked question) json.RawMessage {
	live, err := asked.Object.MarshalJSON()
	must(err)
	patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(asked.Manifest, asked.Manifest, live)
	must(err)
	return patch
}

func health(asked question) map[string]string {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	state.SetGlobal("obj", value(state, asked.Object.Object))
	must(state.DoString(asked.Script))
	said := state.CheckTable(-1)
	return map[string]string{
		"status":  said.RawGetString("status").String(),
		"message": said.RawGetString("message").String(),
	}
}

func value(state *lua.LState, from any) lua.LValue {
	switch it := from.(type) {
	case bool:
		return lua.LBool(it)
	case string:
		return lua.LString(it)
	case int64:
		return lua.LNumber(it)
	case float64:
		return lua.LNumber(it)
	case []any:
		table := state.NewTable()
		for _, item := range it {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range it {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
