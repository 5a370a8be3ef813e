//! The path that comes nearest to an expression that matches none.

/// The one of `paths` that has the names most similar to the literal text of `pattern`.
///
/// An expression usually names some components (`self_atn`, `layers\.99\.`), so it is compared with as many of a path.
pub(super) fn nearest<'p>(pattern: &str, paths: &[&'p str]) -> Option<&'p str> {
    let wanted = literal(pattern);
    let count = wanted.split('.').count();
    let likeness = |path: &str| {
        let components: Vec<&str> = path.split('.').collect();
        let runs = components.windows(count.min(components.len()));
        runs.map(|run| strsim::normalized_levenshtein(&wanted, &run.join("."))).fold(0.0, f64::max)
    };
    let mut best: Option<(f64, &str)> = None;
    for path in paths {
        let likeness = likeness(path);
        if best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, path));
        }
    }
    best.map(|(_, path)| path)
}

/// The expression without anchors, classes, groups and repetitions: roughly the text that its author had in mind.
fn literal(pattern: &str) -> String {
    let mut text = String::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => text.extend(characters.next().filter(|c| !c.is_alphanumeric())),
            '[' => drop(characters.by_ref().find(|c| *c == ']')),
            '{' => drop(characters.by_ref().find(|c| *c == '}')),
            '^' | '$' | '(' | ')' | '*' | '+' | '?' | '|' => {}
            c => text.push(c),
        }
    }
    text.trim_matches('.').to_string()
}
