//! The card that libraries write before anybody has: the hub's template, with every blank unfilled.

/// The lines of the template in all versions of huggingface_hub, without repetitions.
const LINES: &str = include_str!("template.txt");

/// Whether `body` is the template, filled in by nobody. What PEFT adds by itself, its version, does not count.
pub(super) fn is_unfilled(body: &str) -> bool {
    let known = |line: &str| LINES.lines().any(|known| known == line);
    let added = |line: &str| {
        let version = line.strip_prefix("- PEFT ").unwrap_or_default();
        let of_version = |c: char| c.is_ascii_alphanumeric() || ".+-".contains(c);
        line == "### Framework versions" || (!version.is_empty() && version.chars().all(of_version))
    };
    let mut lines = body.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    lines.peek() == Some(&"# Model Card for Model ID") && lines.all(|line| known(line) || added(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unchanged_template_is_recognised() {
        let template = "\n# Model Card for Model ID\n\n<!-- Provide a quick summary of what the model is/does. -->\n\n\n\
                        - **Developed by:** [More Information Needed]\n\n[More Information Needed]\n\
                        ### Framework versions\n\n- PEFT 0.18.1.dev0";
        assert!(is_unfilled(template));
        assert!(is_unfilled(&template.replace('\n', "\r\n")));
        for (from, to) in [
            ("Model ID", "my model"),
            ("by:** [More Information Needed]", "by:** me"),
            ("\n\n[More", "\n\nIt speaks Swiss German.\n[More"),
            ("- PEFT 0.18.1.dev0", "- PEFT 0.18.1 and a patch"),
            ("# Model Card", "# My Card"),
        ] {
            assert!(!is_unfilled(&template.replace(from, to)), "{to}");
        }
        assert!(!is_unfilled("") && !is_unfilled("# Title\n"));
    }
}
