//! The stable names of findings, so that a misspelt one in a policy is noticed.

use lorakit_tensor::problem::excerpt;

/// Every name that a finding of an adapter or a model may have, and what it means. Those of the second group need
/// values, those of the third the base.
pub(super) const CODES: &[(&str, &str)] = &[
    ("alpha", "a module's alpha is not one finite number"),
    ("alpha-is-rank", "the file has no alphas, so the scale is 1"),
    ("alpha-missing", "the configuration has no `lora_alpha`"),
    ("alpha-zero", "`lora_alpha` is 0, so the adapter changes nothing"),
    ("applied-twice", "a delta acts twice in the PEFT that trained it"),
    ("base-copies", "the file brings weights of the base along"),
    ("card", "the front matter of `README.md` cannot be read"),
    ("code-beside", "there are programs or scripts beside the adapter"),
    ("embeddings", "input or output embeddings are changed, which may be tied"),
    ("empty", "there are no factors and no saved tensors"),
    ("experts", "parameters of experts are nested"),
    ("foreign-method", "a tensor or the configuration belongs to another method than LoRA and DoRA"),
    ("foreign-tensor", "a tensor is no part of a module"),
    ("full-delta", "parameters have deltas that are stored whole, without factors"),
    ("gguf-adapter", "a GGUF file calls itself an adapter, and has no factors"),
    ("ignored-norm", "a GGUF adapter holds a norm, which llama.cpp ignores"),
    ("imports-code", "the configuration names a module of Python that PEFT would import"),
    ("large-scale", "the scale of a module is above 64"),
    ("lineage", "the record of where it came from cannot be used"),
    ("local-path", "the base is named by a path on the machine that trained it"),
    ("metadata", "the metadata of a GGUF adapter are not those of one"),
    ("method", "it is of another method than plain LoRA, and what it is read as"),
    ("missing-half", "a module lacks one of its factors"),
    ("missing-magnitude", "`use_dora` is true, and no module has magnitudes"),
    ("missing-part", "a fused module lacks one of its parts"),
    ("modules-to-save", "parameters are saved whole"),
    ("mutated-base", "the initialisation changed the base"),
    ("needs-base", "the files can be read only with the base"),
    ("negative-scale", "the scale of a module is negative"),
    ("nested-parameters", "parameters are wrapped more often than the configuration names any"),
    ("no-base-model", "the configuration names no base"),
    ("old-pattern-rule", "versions of PEFT read `rank_pattern` or `alpha_pattern` differently"),
    ("other-adapters", "there are other adapters beside it, which are not read"),
    ("pickles-beside", "there are pickles beside the adapter, which may hold code"),
    ("rank-mismatch", "the factors have another rank than the configuration says"),
    ("rank-missing", "the configuration has no `r`"),
    ("rank-too-large", "the rank is higher than the matrix can have"),
    ("repeated-key", "two tensors are the same part of a module"),
    ("row-order", "the order of some rows is known only with the base"),
    ("rslora", "the scale is alpha / sqrt(r)"),
    ("saved-missing", "`modules_to_save` names what the file does not have"),
    ("saved-unnamed", "a parameter is saved whole that the configuration does not name"),
    ("shape", "shapes of tensors disagree"),
    ("target-without-tensors", "`target_modules` names what the file does not have"),
    ("token-conflict", "a module has trained token rows and low-rank factors"),
    ("token-count", "there are more or fewer token rows than the configuration lists"),
    ("torchtune-export", "torchtune exported it in a way that PEFT misreads"),
    ("undecodable", "a tensor of a GGUF adapter cannot be decoded"),
    ("unexpected-suffix", "a tensor of a GGUF adapter is neither `lora_a` nor `lora_b`"),
    ("unmergeable", "an option or a shape makes the factors mean something else"),
    ("unmerged-adapter", "a model holds factors that were not merged"),
    ("unnamed-modules", "the configuration does not name all modules, so PEFT does not load them"),
    ("unread-tensors", "files beside the adapter hold tensors that are not read"),
    ("unreadable", "a file or folder cannot be read, or is damaged"),
    ("value-head", "the file holds a value head, which is not read"),
    ("zero-size-tensor", "a tensor is empty"),
    ("zero3-remnants", "most tensors are empty: DeepSpeed did not gather its shards"),
    // These need values.
    ("collapsed-rank", "a module uses one direction of its rank, and its kind does not"),
    ("copied-module", "a module, or a layer, has the delta of another"),
    ("dora", "norms are of the product alone, without the magnitudes"),
    ("dtype", "a tensor cannot be decoded"),
    ("few-rows", "a few output rows of a module have most of its energy"),
    ("flat-spectrum", "a module, or a layer, is as flat as noise, and its kind is not"),
    ("non-finite", "a tensor holds NaN or infinity"),
    ("stronger-than-kind", "the delta of a module has ten times the norm of its kind"),
    ("unbalanced-factors", "the values of a module's factors differ by many orders of magnitude"),
    ("untrained", "a module has an all-zero factor"),
    // This needs the base.
    ("delta-above-weight", "the delta of a module is larger than the weight that it is added to"),
];

/// The stable name that `text` is.
///
/// # Errors
/// That it is none, and the nearest one.
pub(super) fn code(text: &str) -> Result<&'static str, String> {
    let names = || CODES.iter().map(|(name, _)| *name);
    names().find(|name| *name == text).ok_or_else(|| {
        let nearest = nearest(text, names()).unwrap_or_default();
        format!("is not the name of a finding; the nearest is `{nearest}`")
    })
}

/// The one of `names` that is most like `text`.
pub(super) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let text = excerpt(text).to_lowercase();
    names.max_by(|a, b| strsim::jaro_winkler(a, &text).total_cmp(&strsim::jaro_winkler(b, &text)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names in the sources of those who find things in adapters and models.
    fn used(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                used(&entry, found);
            } else if !["tests.rs", "testing.rs", "codes.rs", "target.rs", "target"]
                .contains(&entry.file_name().unwrap().to_str().unwrap())
            {
                let text = fs::read_to_string(&entry).unwrap();
                let code = text.split("\nmod tests {").next().unwrap();
                let pattern = r#"(?:Severity::\w+|severity|\bfault\(|Err\(\()[,\s]*"([a-z0-9-]+)"|(?:ROW_ORDER|OTHER_RANK|OTHER_ADAPTERS|ALPHA_IS_RANK|MUTATED_BASE|CODE|PICKLES): &str = "([a-z-]+)""#;
                for found_here in fancy_regex::Regex::new(pattern).unwrap().captures_iter(code) {
                    let captures = found_here.unwrap();
                    let name = captures.get(1).or(captures.get(2)).unwrap().as_str();
                    found.insert(name.to_string());
                }
            }
        }
    }

    #[test]
    fn the_table_has_every_name() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = BTreeSet::new();
        for folder in ["adapter", "card", "lineage", "ops/inspect", "ops/audit"] {
            used(&sources.join(folder), &mut found);
        }
        // Found only when adapters are compared with each other or with a base, or when something is made of them.
        for other in ["same-adapter", "base-dtype", "tied-embeddings", "licences-differ"] {
            assert!(found.remove(other), "{other}");
        }
        let known: BTreeSet<String> = CODES.iter().map(|(name, _)| (*name).to_string()).collect();
        assert_eq!(known.len(), CODES.len(), "no name is listed twice");
        assert_eq!(found, known);
    }

    #[test]
    fn the_reference_has_every_name() {
        let page = include_str!("../../../../../docs/reference/policy.md");
        for (name, about) in CODES {
            assert!(page.contains(&format!("| `{name}` | {about} |")), "{name}");
        }
    }

    #[test]
    fn of_a_misspelt_name_the_nearest_is_told() {
        assert_eq!(code("non-finite"), Ok("non-finite"));
        let message = code("nonfinite").unwrap_err();
        assert_eq!(message, "is not the name of a finding; the nearest is `non-finite`");
    }
}
