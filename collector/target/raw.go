package target

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/strutil"
)

// Labels of Raw about a process. They are there for rules, and left out by Finish.
const (
	metaComm      = "__meta_process_comm"
	metaExe       = "__meta_process_exe"
	metaCgroup    = "__meta_cgroup_path"
	metaContainer = "__meta_container_id"
	metaUnit      = "__meta_systemd_unit"
	metaUserUnit  = "__meta_systemd_user_unit"
	metaSlice     = "__meta_systemd_slice"
	metaOTel      = "__meta_otel_" // followed by an attribute's key, with _ for other characters than letters and digits
)

// Labels that Raw hands to Finish.
const (
	rawIDs     = "__container_ids" // separated by commas, the innermost first
	rawPod     = "__pod_uid"
	rawService = "__service_own"     // as configured, or the systemd unit
	rawProgram = "__service_program" // what the process runs
)

// rawLabels returns the labels for Finish of what is known about a process.
func (r *Resolver) rawLabels(p *process) labels.Labels {
	b := labels.NewScratchBuilder(16)
	add := func(name, value string) {
		if value = labelValue(value); value != "" {
			b.Add(name, value)
		}
	}
	comm := p.comm
	if p.kernel {
		comm = kernelThread(comm)
		add(rawService, KernelService)
	}
	comm = cmp.Or(labelValue(comm), commOf(p.exe), unknown)
	add(LabelComm, comm)
	add(metaComm, comm)
	add(LabelExe, p.exe)
	add(metaExe, p.exe)
	add(LabelNode, r.node)
	add(LabelCluster, r.o.Cluster)
	add(metaCgroup, p.cgroup.path)
	if !p.kernel {
		add(rawService, cmp.Or(labelValue(p.service[attrService]), p.cgroup.service()))
		add(rawProgram, cmp.Or(labelValue(program(p.exe, p.args)), p.comm))
		add(LabelServiceNamespace, p.service[attrNamespace])
		add(LabelServiceVersion, p.service[attrVersion])
		taken := map[string]bool{} // by a.b, of which a_b would have the name
		for _, key := range slices.Sorted(maps.Keys(p.service)) {
			if name := strutil.SanitizeLabelName(key[:min(len(key), maxLabelValue)]); !taken[name] {
				add(metaOTel+name, p.service[key])
				taken[name] = true
			}
		}
		add(metaContainer, p.cgroup.container())
		add(rawIDs, strings.Join(p.cgroup.containers, ","))
		add(rawPod, p.cgroup.pod)
		add(metaUnit, p.cgroup.unit)
		add(metaUserUnit, p.cgroup.userUnit)
		add(metaSlice, p.cgroup.slice)
	}
	b.Sort()
	return b.Labels()
}
