package deploy

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"
)

// An Object is one object of a manifest, such as a *appsv1.DaemonSet.
type Object struct {
	File string
	runtime.Object
	Meta metav1.Object
}

// Load reads all objects of the YAML files below a file system, but kustomizations. An
// unknown field, a duplicate key and an unknown kind are errors that name the file.
func Load(files fs.FS) ([]Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []Object
	err := fs.WalkDir(files, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(file) != ".yaml" || entry.Name() == "kustomization.yaml" {
			return err
		}
		text, err := fs.ReadFile(files, file)
		if err != nil {
			return err
		}
		for i, document := range bytes.Split(text, []byte("\n---\n")) {
			// The decoder knows no YAML aliases.
			json, err := yaml.YAMLToJSONStrict(document)
			if err != nil {
				return fmt.Errorf("%s, document %d: %w", file, i+1, err)
			}
			o, _, err := decoder.Decode(json, nil, nil)
			if err != nil {
				return fmt.Errorf("%s, document %d: %w", file, i+1, err)
			}
			m, ok := o.(metav1.Object)
			if !ok {
				return fmt.Errorf("%s, document %d: has no metadata", file, i+1)
			}
			objects = append(objects, Object{file, o, m})
		}
		return nil
	})
	return objects, err
}

// Find returns the object of a type and name.
func Find[T runtime.Object](objects []Object, name string) (found T, err error) {
	for _, o := range objects {
		if t, ok := o.Object.(T); ok && o.Meta.GetName() == name {
			return t, nil
		}
	}
	return found, fmt.Errorf("no %s %s", strings.TrimPrefix(fmt.Sprintf("%T", found), "*"), name)
}
