use super::*;
use crate::ErrorKind;
use crate::adapter::{Module, ModuleKind, Saved, Scaling};
use crate::tensor::tests::tensor;

const PATHS: [&str; 4] =
    ["m.layers.0.attn.q", "m.layers.0.mlp.up", "m.layers.1.attn.q", "m.layers.11.attn.q"];

fn adapter() -> Adapter {
    let mut adapter = Adapter::of(Adapter::IN_MEMORY, "adapter".as_ref());
    let module = |path: &&str| {
        let (a, b) = (tensor("a", &[1, 1], &[1.0]), tensor("b", &[1, 1], &[1.0]));
        Module::new(*path, ModuleKind::Linear, a, b, Scaling::Fixed(1.0))
    };
    adapter.modules = PATHS.iter().map(module).collect();
    for name in ["m.norm.weight", "m.norm.bias", "score"] {
        adapter.saved.push(Saved { name: name.into(), tensor: tensor(name, &[1], &[1.0]) });
    }
    let tensor = tensor("rows", &[1, 1], &[1.0]);
    adapter.token_rows.push(TokenRows { path: "m.embed".into(), tensor, rows: vec![0] });
    adapter
}

fn strengths(only: &[&str], skip: &[&str], weights: &[&str]) -> Strengths {
    let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let weights = weights.iter().map(|text| text.parse().unwrap()).collect();
    Strengths { only: patterns(only), skip: patterns(skip), weights }
}

/// What is left, with its strength.
fn left(only: &[&str], skip: &[&str], weights: &[&str]) -> Vec<String> {
    let mut adapter = adapter();
    strengths(only, skip, weights).apply([&mut adapter]).unwrap();
    let modules = adapter.modules.iter().map(|module| format!("{} {}", module.path, module.strength));
    let saved = adapter.saved.iter().map(|saved| saved.name.clone());
    let rows = adapter.token_rows.iter().map(|rows| rows.path.clone());
    modules.chain(saved).chain(rows).collect()
}

fn refused(only: &[&str], skip: &[&str], weights: &[&str]) -> (ErrorKind, String) {
    let error = strengths(only, skip, weights).apply([&mut adapter()]).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn expressions_match_anywhere_in_a_path() {
    assert_eq!(left(&[r"layers\.1\."], &[], &[]), ["m.layers.1.attn.q 1"]);
    assert_eq!(left(&["attn"], &[r"layers\.1"], &[]), ["m.layers.0.attn.q 1"]);
    assert_eq!(left(&["mlp", "norm"], &[], &[]), ["m.layers.0.mlp.up 1", "m.norm.weight", "m.norm.bias"]);
    assert_eq!(left(&["norm$|score|embed"], &["embed"], &[]), ["m.norm.weight", "m.norm.bias", "score"]);
}

#[test]
fn factors_multiply_and_zero_leaves_out() {
    assert_eq!(
        left(&["layers"], &[], &["attn=0.5", r"\.1\.=4", "mlp=0"]),
        ["m.layers.0.attn.q 0.5", "m.layers.1.attn.q 2", "m.layers.11.attn.q 0.5"]
    );
    // Factors that cancel each other leave the weight as it was.
    let mut adapter = adapter();
    let done = strengths(&[], &["norm"], &["attn=2", "attn=0.5", "mlp|embed=-1", "score=0"]);
    let done = done.apply([&mut adapter]).unwrap().remove(0);
    assert_eq!(done.left_out, ["m.norm", "score"]);
    assert_eq!(done.weighted, [("m.layers.0.mlp.up".to_string(), -1.0), ("m.embed".to_string(), -1.0)]);
    assert_eq!((done.replacing, done.of("m.embed"), done.of("m.layers.0.attn.q")), (1, -1.0, 1.0));
}

#[test]
fn nothing_is_silently_without_effect() {
    let (kind, message) = refused(&[], &["atn"], &[]);
    assert_eq!(kind, ErrorKind::Unmatched);
    assert_eq!(message, "`atn` matches none of the 8 modules; the nearest is `m.layers.0.attn.q`");
    assert!(refused(&[r"layers\.12\."], &[], &[]).1.ends_with("`m.layers.1.attn.q`"));
    assert!(refused(&[], &[], &["^nrm$=2"]).1.ends_with("`m.norm`"));
    assert_eq!(refused(&["q"], &["attn"], &[]).0, ErrorKind::Unchanged);
    assert_eq!(refused(&[], &[], &[".=0"]).0, ErrorKind::Unchanged);
    let (kind, message) = refused(&[], &[], &["norm|embed=0.5"]);
    assert_eq!(kind, ErrorKind::Usage, "{message}");
}

#[test]
fn one_adapter_is_enough_for_an_expression() {
    let (mut one, mut two) = (adapter(), adapter());
    two.modules.retain(|module| module.path.contains("attn"));
    let done = strengths(&[], &["mlp"], &[]).apply([&mut one, &mut two]).unwrap();
    assert_eq!((done[0].left_out.len(), done[1].left_out.len()), (1, 0));
}

#[test]
fn texts() {
    let block: BlockWeight = "a=b=0.5".parse().unwrap();
    assert_eq!((block.pattern.as_str(), block.weight, block.to_string().as_str()), ("a=b", 0.5, "a=b=0.5"));
    for text in ["a", "=1", "a=", "a=x", "a=inf", "a=nan", "(=1"] {
        assert_eq!(text.parse::<BlockWeight>().unwrap_err().kind(), ErrorKind::Usage, "{text}");
    }
}
