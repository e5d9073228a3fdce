package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/flameline/flameline/collector/config"
	"github.com/flameline/flameline/deploy"
)

func load(t *testing.T) []deploy.Object {
	t.Helper()
	objects, err := deploy.Load(os.DirFS("kubernetes"))
	require.NoError(t, err)
	require.NotEmpty(t, objects)
	return objects
}

func TestLoadIsStrict(t *testing.T) {
	for name, text := range map[string]string{
		`unknown field "spec.hostPid"`: "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostPid: true}\n",
		`no kind "Deployment"`:         "apiVersion: v1\nkind: Deployment\nmetadata: {name: a}\n",
		"already set":                  "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nmetadata: {name: b}\n",
		"cannot unmarshal":             "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{ports: [{containerPort: x}]}]}\n",
	} {
		_, err := deploy.Load(fstest.MapFS{"a.yaml": {Data: []byte(text)}})
		require.ErrorContains(t, err, "a.yaml, document 1")
		require.ErrorContains(t, err, name)
	}
}

// Every YAML file is in the kustomization beside it, except for the pod that is created by
// itself.
func TestKustomizations(t *testing.T) {
	folders, err := filepath.Glob("kubernetes/*")
	require.NoError(t, err)
	for _, folder := range folders {
		if folder == "kubernetes/debug" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
		require.NoError(t, err)
		var k struct {
			APIVersion, Kind, Namespace string
			Resources                   []string
			Patches                     []any
		}
		require.NoError(t, yaml.UnmarshalStrict(text, &k), folder)
		files, err := filepath.Glob(folder + "/*.yaml")
		require.NoError(t, err)
		for _, f := range files {
			if name := filepath.Base(f); name != "kustomization.yaml" {
				require.Contains(t, k.Resources, name, folder)
			}
		}
		require.Len(t, k.Resources, len(files)-1, folder)
	}
}

// What objects refer to is there.
func TestReferences(t *testing.T) {
	objects := load(t)
	for _, o := range objects {
		switch o := o.Object.(type) {
		case *rbacv1.ClusterRoleBinding:
			_, err := deploy.Find[*rbacv1.ClusterRole](objects, o.RoleRef.Name)
			require.NoError(t, err, o.Name)
			for _, s := range o.Subjects {
				account, err := deploy.Find[*corev1.ServiceAccount](objects, s.Name)
				require.NoError(t, err, o.Name)
				require.Equal(t, account.Namespace, s.Namespace, o.Name)
			}
		case *appsv1.StatefulSet:
			_, err := deploy.Find[*corev1.Service](objects, o.Spec.ServiceName)
			require.NoError(t, err, o.Name)
			require.True(t, selects(o.Spec.Selector.MatchLabels, o.Spec.Template.Labels))
			checkPod(t, objects, &o.Spec.Template.Spec, o.Spec.VolumeClaimTemplates)
		case *appsv1.DaemonSet:
			require.True(t, selects(o.Spec.Selector.MatchLabels, o.Spec.Template.Labels))
			checkPod(t, objects, &o.Spec.Template.Spec, nil)
		case *corev1.Pod:
			checkPod(t, objects, &o.Spec, nil)
		case *corev1.Service:
			server, err := deploy.Find[*appsv1.StatefulSet](objects, "flameline")
			require.NoError(t, err)
			require.True(t, selects(o.Spec.Selector, server.Spec.Template.Labels), o.Name)
			agent, err := deploy.Find[*appsv1.DaemonSet](objects, "flameline-agent")
			require.NoError(t, err)
			require.False(t, selects(o.Spec.Selector, agent.Spec.Template.Labels), o.Name)
			for _, p := range o.Spec.Ports {
				require.NotNil(t, port(server.Spec.Template.Spec.Containers[0], p.TargetPort.String()), o.Name)
			}
		}
	}
}

func selects(selector, of map[string]string) bool {
	return labels.SelectorFromSet(selector).Matches(labels.Set(of))
}

func port(c corev1.Container, name string) *corev1.ContainerPort {
	if i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name }); i >= 0 {
		return &c.Ports[i]
	}
	return nil
}

func checkPod(t *testing.T, objects []deploy.Object, p *corev1.PodSpec, claims []corev1.PersistentVolumeClaim) {
	t.Helper()
	if p.ServiceAccountName != "" {
		_, err := deploy.Find[*corev1.ServiceAccount](objects, p.ServiceAccountName)
		require.NoError(t, err)
	}
	var volumes []string
	for _, v := range p.Volumes {
		volumes = append(volumes, v.Name)
		if v.ConfigMap != nil {
			_, err := deploy.Find[*corev1.ConfigMap](objects, v.ConfigMap.Name)
			require.NoError(t, err)
		}
	}
	for _, c := range claims {
		volumes = append(volumes, c.Name)
	}
	require.Len(t, p.Containers, 1)
	c := p.Containers[0]
	var mounted []string
	for _, m := range c.VolumeMounts {
		mounted = append(mounted, m.Name)
	}
	require.ElementsMatch(t, volumes, mounted)
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe != nil {
			require.NotNil(t, port(c, probe.HTTPGet.Port.String()), probe.HTTPGet.Path)
		}
	}
	require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	require.False(t, p.HostNetwork || p.HostIPC)
}

// The files of configuration are valid, the ports are those of the pods, and agents and
// Grafana have the address of the service.
func TestConfigurations(t *testing.T) {
	objects := load(t)
	service, err := deploy.Find[*corev1.Service](objects, "flameline")
	require.NoError(t, err)
	url := "http://" + service.Name + "." + service.Namespace + ".svc:4040"
	require.EqualValues(t, 4040, service.Spec.Ports[0].Port)

	agent := configuration(t, objects, "flameline-agent")
	require.Equal(t, url, agent.Push.URL)
	require.Equal(t, config.True, agent.EBPF.Enabled)
	server := configuration(t, objects, "flameline")
	require.Equal(t, config.False, server.EBPF.Enabled)
	set, err := deploy.Find[*appsv1.StatefulSet](objects, "flameline")
	require.NoError(t, err)
	c := set.Spec.Template.Spec.Containers[0]
	require.True(t, slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.Name == set.Spec.VolumeClaimTemplates[0].Name && strings.HasPrefix(server.Storage.Path, m.MountPath+"/")
	}), "the store is in the volume")
	volume := set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().Value()
	require.Less(t, int64(server.Storage.MaxBytes), volume*95/100)
	memory := int64(server.Storage.CacheBytes) + int64(server.Limits.MaxQueryBytes) + int64(server.Limits.MaxPushBytes) + 100<<20
	require.LessOrEqual(t, memory, c.Resources.Requests.Memory().Value())
	daemons, err := deploy.Find[*appsv1.DaemonSet](objects, "flameline-agent")
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(daemons.Spec.Template.Spec.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == agent.Symbols.Path
	}), "the agent's root file system cannot be written to")
	for file, container := range map[*config.Config]corev1.Container{agent: daemons.Spec.Template.Spec.Containers[0], server: c} {
		require.Equal(t, "0.0.0.0:4040", file.Web.ListenAddress)
		require.EqualValues(t, 4040, port(container, "http").ContainerPort)
	}

	source, err := deploy.Find[*corev1.ConfigMap](objects, "flameline-datasource")
	require.NoError(t, err)
	var provisioned struct {
		APIVersion  int
		Datasources []struct {
			Name, UID, Type, Access, URL string
			JSONData                     map[string]any
		}
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(source.Data["flameline.yaml"]), &provisioned))
	require.Equal(t, url, provisioned.Datasources[0].URL)
	plugin, err := os.ReadFile("../plugin.json")
	require.NoError(t, err)
	require.Contains(t, string(plugin), `"id": "`+provisioned.Datasources[0].Type+`"`)
}

// configuration returns the configuration in a ConfigMap.
func configuration(t *testing.T, objects []deploy.Object, name string) *config.Config {
	t.Helper()
	m, err := deploy.Find[*corev1.ConfigMap](objects, name)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "flameline.yaml")
	require.NoError(t, os.WriteFile(file, []byte(m.Data["flameline.yaml"]), 0o600))
	c, err := config.Load(file)
	require.NoError(t, err, name)
	return c
}

// The ConfigMaps hold the plugin's dashboards as they are.
func TestDashboards(t *testing.T) {
	objects := load(t)
	files, err := filepath.Glob("../src/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		base := filepath.Base(file)
		m, err := deploy.Find[*corev1.ConfigMap](objects, "flameline-dashboard-"+strings.TrimSuffix(base, ".json"))
		require.NoError(t, err)
		require.JSONEq(t, string(want), m.Data[base])
		require.Less(t, len(m.Data[base]), 200<<10, "kubectl apply keeps a copy in an annotation of up to 256 KiB")
	}
}

// The debug pod has the agent's rights.
func TestDebugPod(t *testing.T) {
	objects := load(t)
	pod, err := deploy.Find[*corev1.Pod](objects, "flameline-record")
	require.NoError(t, err)
	daemons, err := deploy.Find[*appsv1.DaemonSet](objects, "flameline-agent")
	require.NoError(t, err)
	agent := daemons.Spec.Template.Spec
	require.Equal(t, agent.Containers[0].SecurityContext, pod.Spec.Containers[0].SecurityContext)
	require.True(t, agent.HostPID && pod.Spec.HostPID)
}
