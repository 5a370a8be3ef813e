//! `--html`: the page, as a file. `tests/peers/report_page.py` checks it in a browser.

use std::fs;

use insta::assert_snapshot;
use serde_json::Value;

use super::Case;

/// The page, and the JSON inside it.
#[track_caller]
fn page(case: &Case) -> (String, Value) {
    let page = fs::read_to_string(case.sandbox.path("report.html")).unwrap();
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let data = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    (page, data)
}

#[test]
fn the_page_holds_the_report() {
    let case = Case::new("plain").with_base("llama-bf16");
    let run = case.sandbox.run("inspect adapter --base base --html report.html --json", &[]).ok();
    assert_eq!(case.sandbox.entries(), ["adapter", "base", "report.html"]);
    let mut printed: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(printed["html"], "report.html");
    let (page, mut data) = page(&case);
    let grids = data["reports"][0]["grids"].take();
    assert_eq!(grids[0]["stem"], "model.layers");
    let cells = grids[0]["rows"].as_array().unwrap().iter().flat_map(|row| row["cells"].as_array().unwrap());
    let mut places: Vec<u64> =
        cells.flat_map(|cell| cell.as_array().unwrap()).map(|i| i.as_u64().unwrap()).collect();
    places.sort_unstable();
    assert_eq!(places, (0..14).collect::<Vec<u64>>(), "every module has its cell");
    assert!(printed["reports"][0]["modules"][0]["spectrum"]["values"][0].is_f64(), "spectra are implied");
    printed.as_object_mut().unwrap().remove("html");
    data["reports"][0].as_object_mut().unwrap().remove("grids");
    assert_eq!(data, printed);
    assert!(!page.contains("{{"), "every place is filled");
}

#[test]
fn the_page_loads_nothing() {
    let case = Case::trained();
    case.sandbox.run("inspect adapter --html report.html", &[]).ok();
    let (page, _) = page(&case);
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http://", "https://", "url(", "@import", "fetch(", "import("] {
        assert!(!page.contains(outside), "{outside}");
    }
    // `href` names the empty icon alone, and no element has a source.
    assert_eq!(page.matches("href=").count(), 1);
    assert_eq!(page.matches("src=").count(), 0);
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn names_are_no_markup() {
    const HOSTILE: &str = "q</script><script>alert(1)</script><!--";
    let case = Case::new("plain");
    case.edit(|weights| {
        let names: Vec<String> = weights.keys().filter(|n| n.contains("q_proj")).cloned().collect();
        for name in names {
            let tensor = weights.remove(&name).unwrap();
            weights.insert(name.replace("q_proj", HOSTILE), tensor);
        }
    });
    case.config(|config| config["base_model_name_or_path"] = HOSTILE.into());
    case.sandbox.run("inspect adapter --html report.html", &[]);
    let (page, data) = page(&case);
    let report = &data["reports"][0];
    assert_eq!(report["base_model"], HOSTILE);
    let paths = report["modules"].as_array().unwrap().iter().map(|m| m["module"].as_str().unwrap());
    assert_eq!(paths.filter(|path| path.ends_with(HOSTILE)).count(), 2);
    assert!(!page.contains("<script>alert") && !page.contains("<!--"), "escaped");
    assert_eq!(page.matches("</script>").count(), 2, "those of the page");
}

/// The name of a folder is the title of the page.
#[test]
fn a_path_is_no_markup() {
    let case = Case::new("attn-r4");
    fs::rename(case.sandbox.path("adapter"), case.sandbox.path("a<b>&c")).unwrap();
    case.sandbox.run("inspect a<b>&c --html report.html", &[]).ok();
    let (page, data) = page(&case);
    assert!(page.contains("<title>a&lt;b&gt;&amp;c - lorakit inspect</title>"));
    assert_eq!(data["reports"][0]["path"], "a<b>&c");
}

#[test]
fn a_page_that_exists() {
    let case = Case::new("attn-r4");
    fs::write(case.sandbox.path("report.html"), "mine").unwrap();
    assert_snapshot!(case.sandbox.refused("inspect adapter --html report.html"), @"
    exit 2
    error: `report.html`: exists

    hint: `--force` replaces it (the old one is kept until the new one is complete)
    ");
    assert_eq!(fs::read_to_string(case.sandbox.path("report.html")).unwrap(), "mine");
    let run = case.sandbox.run("inspect adapter --html report.html --force", &[]).ok();
    assert!(run.stdout.lines().last().unwrap().starts_with("wrote `report.html`, "), "{}", run.stdout);
    page(&case);
}

#[test]
fn an_input_as_the_page() {
    let case = Case::new("attn-r4");
    let weights = "adapter/adapter_model.safetensors";
    let before = fs::read(case.sandbox.path(weights)).unwrap();
    assert_snapshot!(case.sandbox.refused(&format!("inspect adapter --html {weights} --force")), @"
    exit 2
    error: `--html` needs a file name ending in `.html`, not `adapter/adapter_model.safetensors`

    hint: name one: `--html report.html`
    ");
    assert_eq!(fs::read(case.sandbox.path(weights)).unwrap(), before);
    fs::write(case.sandbox.path("weights.html"), &before).unwrap();
    assert_snapshot!(case.sandbox.refused("inspect weights.html --html weights.html --force"), @"
    exit 2
    error: `weights.html`: is both the output and the input `weights.html`

    hint: choose an output that is not an input
    ");
}

/// Unreadable inputs are in the page too, and the command still fails.
#[test]
fn several_paths() {
    let case = Case::new("attn-r4").with_base("llama-f16");
    let run = case.sandbox.run("inspect adapter nowhere base --html report.html", &[]);
    assert_eq!(run.code, Some(1));
    let (_, data) = page(&case);
    let kinds: Vec<&str> =
        data["reports"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["adapter", "model", "error"]);
}
