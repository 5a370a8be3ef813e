//! Reports as JSON, `lorakit.inspect/1`.

use lorakit::ops::inspect::{
    AdapterReport, DTypeCount, FitReport, Inspection, ModelReport, ModuleReport, TargetReport, Verdict,
};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::ui::finding_json;

pub(super) fn object(reports: &[Inspection], failures: &[Failure]) -> Value {
    let failures = failures.iter().map(|failure| {
        let mut object = failure.json(None);
        object["kind"] = "error".into();
        object
    });
    let reports = reports.iter().map(|report| match report {
        Inspection::Adapter(report) => adapter(report),
        Inspection::Model(report) => model(report),
    });
    json!({ "schema": "lorakit.inspect/1", "reports": reports.chain(failures).collect::<Vec<_>>() })
}

fn adapter(r: &AdapterReport) -> Value {
    let counts = |counts: &[(f64, usize)]| {
        counts.iter().map(|(value, n)| json!({ "value": value, "modules": n })).collect::<Vec<_>>()
    };
    json!({
        "kind": "adapter",
        "path": r.path.display().to_string(),
        "file": r.file.display().to_string(),
        "bytes": r.bytes,
        "methods": r.methods,
        "ranks": r.ranks.iter().map(|(value, n)| json!({ "value": value, "modules": n })).collect::<Vec<_>>(),
        "alphas": counts(&r.alphas),
        "scales": counts(&r.scales),
        "parameters": r.parameters,
        "tensors": r.tensors,
        "dtypes": dtypes(&r.dtypes),
        "base_model": r.base_model,
        "format": r.format,
        "peft_version": r.peft_version,
        "lineage": r.lineage,
        "task": r.task,
        "init": r.init,
        "values_read": r.norms,
        "fit": r.fit.as_ref().map(|f| fit(f, r.non_finite())),
        "for": r.target.as_ref().map(target),
        "modules": r.modules.iter().map(module).collect::<Vec<_>>(),
        "saved": r.saved.iter().map(|s| json!({ "name": s.name, "shape": s.shape, "bytes": s.bytes })).collect::<Vec<_>>(),
        "token_rows": r.token_rows.iter().map(|t| json!({ "path": t.path, "rows": t.rows })).collect::<Vec<_>>(),
        "findings": r.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn module(m: &ModuleReport) -> Value {
    let mut object = json!({
        "path": m.path, "layer": m.layer, "leaf": m.leaf, "method": m.method, "rank": m.rank, "experts": m.experts,
        "alpha": m.alpha, "scale": m.scale, "a": m.a, "b": m.b, "bias": m.bias,
        "norm": m.norm, "relative_norm": m.relative, "targets": m.targets,
    });
    if let Some(spectrum) = &m.spectrum {
        object["spectrum"] = json!({
            "values": spectrum.values, "effective_rank": spectrum.effective, "stable_rank": spectrum.stable,
            "rank_90": spectrum.rank90, "rank_99": spectrum.rank99, "dead": spectrum.dead,
        });
    }
    object
}

fn fit(f: &FitReport, non_finite: usize) -> Value {
    json!({
        "base": f.base.display().to_string(), "fits": f.misfit.is_none(), "misfit": f.misfit,
        "changed_tensors": f.changed, "base_tensors": f.base_tensors, "tied": f.tied,
        "non_finite_tensors": non_finite, "checked_tensors": f.checked,
        "unchecked_tensors": f.base_tensors.saturating_sub(f.checked),
    })
}

fn target(t: &TargetReport) -> Value {
    let verdict = |v: &Verdict| json!({ "severity": v.severity.to_string(), "code": v.code, "reason": v.reason, "fix": v.fix });
    json!({
        "runtime": t.runtime.name(), "accepted": t.is_accepted(),
        "verdicts": t.verdicts.iter().map(verdict).collect::<Vec<_>>(),
    })
}

fn model(r: &ModelReport) -> Value {
    let file = |f: &lorakit::ops::inspect::FileReport| json!({ "name": f.name, "bytes": f.bytes, "tensors": f.tensors });
    let dimensions = r.dimensions.iter().map(|(name, n)| ((*name).to_string(), Value::from(*n)));
    json!({
        "kind": "model",
        "path": r.path.display().to_string(),
        "format": r.format,
        "architecture": r.architecture,
        "model_type": r.model_type,
        "name": r.name,
        "dimensions": dimensions.collect::<serde_json::Map<_, _>>(),
        "parameters": r.parameters,
        "tensors": r.tensors,
        "dtypes": dtypes(&r.dtypes),
        "files": r.files.iter().map(file).collect::<Vec<_>>(),
        "bytes": r.bytes,
        "tied": r.tied,
        "quantization": r.quantization,
        "tokenizer": r.tokenizer,
        "metadata": r.metadata,
        "lineage": r.lineage,
        "findings": r.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn dtypes(counts: &[DTypeCount]) -> Vec<Value> {
    let one = |c: &DTypeCount| json!({ "dtype": c.dtype.name(), "tensors": c.tensors, "parameters": c.parameters, "bytes": c.bytes });
    counts.iter().map(one).collect()
}
