//! Biases are deltas: they take part in a sum by the weight of their adapter, whatever its sign.

use crate::support::{Sandbox, peft};
use crate::weights::read_folder;

#[test]
fn biases_have_the_weight_of_their_adapter() {
    let sandbox = Sandbox::new();
    let base = peft("bases/qwen2-bf16");
    let adapter = peft("adapters/lora-bias").display().to_string();
    let other = sandbox.copy(&peft("adapters/lora-bias"), "other").display().to_string();
    let merged = |out: &str, adapters: &[String]| {
        let line = format!("merge {} {} -o {out} --force --dtype f32", base.display(), adapters.join(" "));
        sandbox.run(&line, &[]).ok();
        read_folder(&sandbox.path(out))
    };
    for (parts, methods) in [
        (vec![format!("{adapter}=-1")], &["cat", "linear", "svd", "ties --density 1"][..]),
        (vec![format!("{adapter}=-0.5")], &["cat", "linear", "svd"]),
        (vec![format!("{adapter}=-0.5"), format!("{other}=2")], &["cat", "svd", "linear"]),
        (vec![format!("{adapter}=0.75"), format!("{other}=-1.5")], &["cat", "svd"]),
    ] {
        let wanted = merged("wanted", &parts);
        for method in methods {
            let line = format!("combine {} -o combined --force --method {method}", parts.join(" "));
            sandbox.run(&line, &[]).ok();
            let found = merged("found", &[sandbox.path("combined").display().to_string()]);
            let mut biases = 0;
            for (name, wanted) in &wanted {
                // Of weights, `linear` makes cross terms; biases it adds.
                if name.ends_with(".weight") && *method == "linear" && parts.len() > 1 {
                    continue;
                }
                biases += usize::from(name.ends_with("bias"));
                for (x, y) in found[name].values().iter().zip(wanted.values()) {
                    assert!((x - y).abs() <= 1e-5, "{parts:?} {method} {name}: {x} {y}");
                }
            }
            assert!(biases > 0);
        }
    }
}
