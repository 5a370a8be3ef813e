//! OLoRA, whose initialisation PEFT repeats whenever it loads an adapter, against PEFT's own merges
//! (`fixtures/generate/peft_olora.py`).

use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::json;

use crate::support::{Sandbox, copy_folder, edit_json, entries, fixtures, peft};
use crate::weights::{Weights, edit_file, read_file, read_folder};

fn golden(case: &str) -> PathBuf {
    fixtures().join("golden/peft-olora").join(case)
}

/// A sandbox with the files of a case, and the arguments that name its adapters.
fn opened(case: &str) -> (Sandbox, Vec<PathBuf>) {
    let sandbox = Sandbox::new();
    copy_folder(&golden(case), &sandbox.path("."));
    let adapters = (0..).map(|place| sandbox.path(&format!("adapter{place}")));
    let adapters = adapters.take_while(|adapter| adapter.exists()).collect();
    (sandbox, adapters)
}

/// The number of values that differ, of all, and the most that one does, as a part of the tensor's usual value.
fn apart(found: &Weights, wanted: &Weights) -> (usize, usize, f64) {
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    let (mut differing, mut all, mut worst) = (0, 0, 0f64);
    for (name, wanted) in wanted {
        let found = &found[name];
        assert_eq!((found.dtype, &found.shape), (wanted.dtype, &wanted.shape), "{name}");
        let (found, wanted) = (found.values(), wanted.values());
        let usual = (wanted.iter().map(|v| v * v).sum::<f64>() / wanted.len() as f64).sqrt();
        for (x, y) in found.iter().zip(&wanted) {
            differing += usize::from(x != y);
            worst = worst.max((x - y).abs() / usual);
        }
        all += wanted.len();
    }
    (differing, all, worst)
}

#[test]
fn merges_are_those_of_peft() {
    let cases = entries(&golden(""));
    assert_eq!(cases.len(), 6, "{cases:?}");
    for case in cases {
        let (sandbox, adapters) = opened(&case);
        let mut inputs = vec![Path::new("base")];
        inputs.extend(adapters.iter().map(PathBuf::as_path));
        sandbox.run("merge -o out", &inputs).ok();
        let (found, wanted) =
            (read_folder(&sandbox.path("out")), read_file(&sandbox.path("merged.safetensors")));
        let base = read_folder(&sandbox.path("base"));
        let dtype = wanted.values().next().unwrap().dtype;
        // PEFT decomposes in f32; what that leaves decides a rounding to sixteen bits now and then.
        let (differing, all, worst) = apart(&found, &wanted);
        let (few, step) = match dtype {
            Dtype::F32 => (all, 3e-6),
            // Two adapters are rounded once here, and after each by PEFT.
            Dtype::BF16 if adapters.len() > 1 => (all / 4, 0.02),
            Dtype::BF16 => (all / 50, 0.02),
            _ => (all / 50, 0.005),
        };
        assert!(differing <= few && worst < step, "{case}: {differing} of {all} differ, by up to {worst:e}");
        let (changed, ..) = apart(&found, &base);
        assert!(changed > all / 3, "{case}: {changed}");

        // PEFT's own merge holds, and a base into which nothing was merged does not.
        let named =
            adapters.iter().map(|adapter| format!(" --adapter {}", adapter.display())).collect::<String>();
        for merged in ["out", "merged.safetensors"] {
            let run = sandbox.run(&format!("verify {merged} --base base{named}"), &[]);
            assert_eq!(run.code, Some(0), "{case}: {merged}: {}", run.stdout);
        }
        let run = sandbox.run(&format!("verify base --base base{named}"), &[]);
        assert_eq!(run.code, Some(1), "{case}: {}", run.stdout);
        assert!(run.stdout.starts_with("adapter missing"), "{case}: {}", run.stdout);
    }
}

/// With `--residual-base` nothing is taken out: the base is what training left of it.
#[test]
fn nothing_is_taken_out_of_a_residual_base() {
    let (sandbox, _) = opened("patterns-f32");
    sandbox.run("merge base adapter0 -o whole", &[]).ok();
    sandbox.run("merge base adapter0 -o residual --residual-base", &[]).ok();
    let plain = sandbox.copy(&sandbox.path("adapter0"), "plain");
    initialised(&plain, json!(true));
    sandbox.run("merge base plain -o usual", &[]).ok();
    let read = |folder: &str| read_folder(&sandbox.path(folder));
    assert_eq!(read("residual"), read("usual"));
    assert!(apart(&read("whole"), &read("usual")).2 > 0.1);
}

fn initialised(adapter: &Path, how: serde_json::Value) {
    edit_json(&adapter.join("adapter_config.json"), |config| config["init_lora_weights"] = how);
}

fn refused(sandbox: &Sandbox, arguments: &str) -> String {
    let run = sandbox.run(arguments, &[]);
    assert_eq!(run.code, Some(1), "{arguments}: {}", run.stderr);
    run.stderr.split("\n\n").next().unwrap_or_default().to_string()
}

#[test]
fn what_has_no_answer_is_refused() {
    let (sandbox, _) = opened("patterns-f32");
    let half = refused(&sandbox, "merge base adapter0=0.5 -o out");
    assert!(half.contains("was initialised with OLoRA and has weight 0.5"), "{half}");
    let undone = refused(&sandbox, "merge base adapter0=-1 -o out");
    assert!(undone.contains("nothing can take it out of a model again"), "{undone}");
    // Another strength for one module is no better.
    let module = refused(&sandbox, "merge base adapter0 -o out --weight tall=0.5");
    assert!(module.contains("weight 0.5") && module.contains("tall"), "{module}");

    sandbox.copy(&sandbox.path("adapter0"), "second");
    let twice = refused(&sandbox, "merge base adapter0 second -o out");
    assert!(twice.contains("two OLoRA adapters"), "{twice}");

    // The first columns of one weight are all zero.
    edit_file(&sandbox.path("base/model.safetensors"), |weights| {
        let weight = weights.get_mut("tall.weight").unwrap();
        let columns = weight.shape[1];
        weight.bytes.chunks_exact_mut(4 * columns).for_each(|row| row[..8].fill(0));
    });
    let zero = refused(&sandbox, "merge base adapter0 -o out");
    assert!(zero.contains("tall.weight") && zero.contains("column 1 that all but depends"), "{zero}");
    assert!(!sandbox.path("out").exists());
}

/// PEFT takes it out of decoded weights, and quantises what is left again.
#[test]
fn a_quantised_base_is_refused() {
    let sandbox = Sandbox::new();
    let adapter = sandbox.copy(&peft("adapters/attn-r4"), "adapter");
    initialised(&adapter, json!("olora"));
    sandbox.copy(&peft("bases/llama-bf16"), "base");
    sandbox.run("merge base adapter -o whole", &[]).ok();
    sandbox.run("quantize base -o packed --type nf4", &[]).ok();
    let message = refused(&sandbox, "merge packed adapter -o out");
    assert!(message.contains("PEFT quantises what is left again"), "{message}");
}

/// Other ranks and scales would make PEFT take something else out of the base.
#[test]
fn its_factors_stay_as_they_are() {
    for init in ["olora", "pissa", "pissa_niter_4"] {
        let sandbox = Sandbox::new();
        let adapter = sandbox.copy(&peft("adapters/attn-r4"), "adapter");
        initialised(&adapter, json!(init));
        for line in [
            "reduce adapter -o out --rank 2",
            "combine adapter=0.5 -o out",
            "edit adapter -o out --alpha 3",
            "convert adapter -o out --to peft --approximate 2",
        ] {
            let message = refused(&sandbox, line);
            assert!(message.contains(&format!("`{init}`, which PEFT repeats")), "{line}: {message}");
        }
        // A copy in another format is warned of.
        let run = sandbox.run("convert adapter -o out.gguf --to gguf --base", &[&peft("bases/llama-bf16")]);
        assert_eq!(run.code, Some(0), "{init}: {}", run.stderr);
        assert!(run.stderr.contains(&format!("was initialised with `{init}`")), "{init}: {}", run.stderr);
    }
}
