//! The command lines that are timed, and what each needs.

use std::collections::BTreeSet;

/// A command line. Names are folders and files next to each other.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) line: &'static str,
    /// The exit code of success.
    pub(super) code: i32,
}

const fn case(name: &'static str, line: &'static str) -> Case {
    Case { name, line, code: 0 }
}

/// A case that ends with exit code 1, because the answer is no.
const fn refused(name: &'static str, line: &'static str) -> Case {
    Case { name, line, code: 1 }
}

/// All cases, ordered so that each finds what it reads.
///
/// `base`, `experts` and `stacked` are models, `adapter` and `other` belong to the first, `of-experts` to the other
/// two, and `pipeline` is an adapter of a diffusion model.
pub(super) const CASES: &[Case] = &[
    case("inspect model", "inspect base"),
    case("inspect adapter", "inspect adapter"),
    case("inspect --spectrum", "inspect adapter --spectrum"),
    case("inspect --base", "inspect adapter --base base"),
    refused("inspect --for", "inspect adapter --for llama.cpp --base base"),
    case("inspect --html", "inspect adapter --html report.html"),
    case("merge", "merge base adapter -o merged"),
    case("merge two", "merge base adapter=0.5 other=0.5 -o merged-two"),
    case("merge --dry-run", "merge base adapter -o planned --dry-run"),
    case("merge --json", "merge base adapter -o merged-json --json"),
    case("merge, shards", "merge base adapter -o merged-shards --max-shard-size 1MB"),
    case("merge to GGUF", "merge base adapter -o merged.gguf --quantize Q8_0"),
    case("merge to nf4", "merge base adapter -o merged-nf4 --quantize nf4 --force"),
    case("verify", "verify merged --base base --adapter adapter"),
    case("verify --json", "verify merged --base base --adapter adapter --json"),
    refused("verify, no merge", "verify base --base base --adapter adapter"),
    case("verify GGUF", "verify merged.gguf --base base --adapter adapter"),
    case("diff models", "diff base merged"),
    case("diff models --base", "diff merged merged-two --base base"),
    case("diff adapters", "diff adapter other"),
    case("extract --rank", "extract base merged -o extracted --rank 4"),
    case("extract --auto", "extract base merged -o extracted-auto --auto"),
    case("convert hf to gguf", "convert base -o base.gguf --to gguf"),
    case("convert gguf to hf", "convert base.gguf -o base-back --to hf"),
    case("inspect GGUF", "inspect base.gguf"),
    case("merge from GGUF", "merge base.gguf adapter -o merged-back"),
    case("quantize Q8_0", "quantize base -o base-q8.gguf --type Q8_0"),
    case("quantize GGUF", "quantize base.gguf -o base-q4.gguf --type Q4_0"),
    case("quantize nf4", "quantize base -o base-nf4 --type nf4 --double-quant"),
    case("quantize int8", "quantize base -o base-int8 --type int8"),
    case("quantize fp8", "quantize base -o base-fp8 --type fp8"),
    case("quantize mxfp8", "quantize base -o base-mxfp8 --type mxfp8"),
    case("merge into nf4", "merge base-nf4 adapter -o merged-q --quantize nf4 --force"),
    case("merge from fp8", "merge base-fp8 adapter -o merged-fp8"),
    case("adapter to gguf", "convert adapter -o adapter.gguf --to gguf --base base"),
    case("adapter from gguf", "convert adapter.gguf -o from-gguf --to peft --base base"),
    case("adapter to mlx", "convert adapter -o mlx --to mlx --base base"),
    case("adapter from mlx", "convert mlx -o from-mlx --to peft --base base"),
    refused("adapter to kohya", "convert adapter -o kohya.safetensors --to kohya --base base"),
    case("pipeline to diffusers", "convert pipeline -o diffusers --to diffusers"),
    case("pipeline from diffusers", "convert diffusers -o from-diffusers --to peft"),
    case("adapter to torchtune", "convert adapter -o torchtune --to torchtune --base base"),
    case("adapter from torchtune", "convert torchtune -o from-torchtune --to peft --base base"),
    case("adapter --uniform", "convert adapter -o uniform --to peft --uniform"),
    case("reduce --rank", "reduce adapter -o reduced --rank 2"),
    case("reduce --energy", "reduce adapter -o reduced-energy --energy 0.8"),
    case("reduce --budget", "reduce adapter -o reduced-budget --budget 8M"),
    case("reduce --target-size", "reduce adapter -o reduced-size --target-size 50MB"),
    case("mixed ranks to gguf", "convert reduced-energy -o mixed.gguf --to gguf --base base"),
    case("mixed ranks, merged", "merge base reduced-energy -o merged-mixed"),
    case("combine svd", "combine adapter other=0.5 -o combined-svd --method svd"),
    case("combine cat", "combine adapter other=0.5 -o combined-cat --method cat"),
    case("combine linear", "combine adapter other=0.5 -o combined-linear --method linear"),
    case("combine ties", "combine adapter other=0.5 -o combined-ties --method ties --density 0.5"),
    case("combine ties_svd", "combine adapter other=0.5 -o combined-mixed --method ties_svd --density 0.5"),
    case("experts: inspect", "inspect of-experts --base experts"),
    case("experts: merge", "merge experts of-experts -o merged-experts"),
    case("experts: verify", "verify merged-experts --base experts --adapter of-experts"),
    case("experts: merge to GGUF", "merge experts of-experts -o merged-experts.gguf --quantize Q8_0"),
    case("experts: hf to gguf", "convert experts -o experts.gguf --to gguf"),
    case("experts: gguf to hf", "convert experts.gguf -o experts-back --to hf"),
    case("experts: adapter to gguf", "convert of-experts -o of-experts.gguf --to gguf --base experts"),
    case("experts: adapter from gguf", "convert of-experts.gguf -o of-experts-back --to peft --base experts"),
    case("experts: adapter to mlx", "convert of-experts -o of-experts-mlx --to mlx --base experts"),
    case("experts: extract", "extract experts merged-experts -o extracted-experts --rank 4"),
    case("stacked: merge", "merge stacked of-experts -o merged-stacked"),
    case("stacked: extract", "extract stacked merged-stacked -o extracted-stacked --rank 4"),
    refused("other model: merge", "merge base of-experts -o merged-wrong"),
    refused("other model: inspect", "inspect of-experts --base base"),
];

impl Case {
    /// The output: the path after `-o`, or the page.
    pub(super) fn output(&self) -> Option<&'static str> {
        if self.line.contains("--dry-run") {
            return None;
        }
        let mut words = self.line.split(' ');
        words.find(|word| matches!(*word, "-o" | "--html"))?;
        words.next()
    }

    /// Whether the case reads the path `name`.
    pub(super) fn reads(&self, name: &str) -> bool {
        let mut words = self.line.split(' ');
        let is_path = |word: &str| word.split('=').next() == Some(name);
        words.any(is_path) && self.output() != Some(name)
    }
}

/// The cases whose name contains one of `parts`, or all; and the cases that write what these read.
pub(super) fn wanted(parts: &[String]) -> Vec<&'static Case> {
    let mut wanted: BTreeSet<usize> = (0..CASES.len())
        .filter(|&i| parts.is_empty() || parts.iter().any(|part| CASES[i].name.contains(part.as_str())))
        .collect();
    for i in (0..CASES.len()).rev() {
        let needed = CASES[i].output().is_some_and(|output| wanted.iter().any(|&j| CASES[j].reads(output)));
        if needed {
            wanted.insert(i);
        }
    }
    wanted.into_iter().map(|i| &CASES[i]).collect()
}
