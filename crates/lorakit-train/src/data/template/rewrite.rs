//! `{% generation %}`, which minijinja does not know, as a filter.

/// The filter that marks what it encloses.
pub(super) const FILTER: &str = "lorakit_generated";

/// `source` with `{% generation %}` and `{% endgeneration %}` as the tags of a filter, with their trim marks; and
/// whether there was any.
pub(super) fn rewrite(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut found = false;
    let mut raw = false;
    let mut rest = source;
    while let Some(start) = opening(rest) {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let length = length(tag);
        let (tag, after) = tag.split_at(length);
        rest = after;
        let word = if tag.starts_with("{%") { word(tag) } else { "" };
        match word {
            "raw" => raw = true,
            "endraw" => raw = false,
            "generation" | "endgeneration" if !raw => {
                found = true;
                let name = if word == "generation" { format!("filter {FILTER}") } else { "endfilter".into() };
                out.push_str(&tag.replacen(word, &name, 1));
                continue;
            }
            _ => {}
        }
        out.push_str(tag);
    }
    out.push_str(rest);
    (out, found)
}

/// Where the next tag, expression or comment begins.
fn opening(text: &str) -> Option<usize> {
    let starts = text.match_indices('{').map(|(at, _)| at);
    starts.into_iter().find(|at| matches!(text.as_bytes().get(at + 1), Some(b'%' | b'{' | b'#')))
}

/// The bytes of the tag, expression or comment at the beginning of `text`. Its end may stand in a string.
fn length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let end: &[u8; 2] = match bytes[1] {
        b'%' => b"%}",
        b'{' => b"}}",
        _ => return text.find("#}").map_or(text.len(), |at| at + 2),
    };
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, b'"' | b'\'') => quote = Some(bytes[at]),
            (None, _) if bytes[at..].starts_with(end) => return at + 2,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The word of a tag that has only one.
fn word(tag: &str) -> &str {
    let inside = tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}")).unwrap_or("");
    inside.trim_matches(['-', '+']).trim()
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn tags_become_those_of_a_filter_with_their_trim_marks() {
        let cases = [
            ("a{% generation %}b{% endgeneration %}c", "a{% filter lorakit_generated %}b{% endfilter %}c"),
            (
                "{%- generation +%}b{%+ endgeneration -%}",
                "{%- filter lorakit_generated +%}b{%+ endfilter -%}",
            ),
            ("{%generation%}b{%-endgeneration-%}", "{%filter lorakit_generated%}b{%-endfilter-%}"),
        ];
        for (source, expected) in cases {
            assert_eq!(rewrite(source), (expected.to_string(), true));
        }
    }

    #[test]
    fn what_is_no_tag_stays() {
        let cases = [
            "no tags {at all}",
            "{# {% generation %} #}",
            "{{ '{% generation %}' }}",
            "{{ \"}} {% generation %}\" }}",
            "{{ '\\'{% generation %}' }}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% set generation = 1 %}{{ generation }}",
            "{% generation",
            "{{ open",
            "{# open",
            "{",
        ];
        for source in cases {
            assert_eq!(rewrite(source), (source.to_string(), false));
        }
    }
}
