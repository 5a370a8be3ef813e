//! Scores, which Langfuse takes by an interface of its own: one a request.

use serde_json::{Value as Json, json};

use crate::id::{SpanId, TraceId};

/// A value of a score.
#[derive(Debug, Clone, PartialEq)]
pub enum Scored {
    /// A number.
    Number(f64),
    /// Yes or no.
    Bool(bool),
    /// One of a few words.
    Word(String),
}

/// How good something was.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The span that it is of.
    pub of: SpanId,
    /// What is judged, such as `eval_loss`.
    pub name: String,
    /// How good it was.
    pub value: Scored,
    /// Why, in words.
    pub comment: Option<String>,
}

/// A score as a line, without its line break; it is also the body of a request. None for a number that is not finite.
pub(crate) fn line(trace: TraceId, environment: Option<&str>, score: &Score) -> Option<String> {
    let (value, kind) = match &score.value {
        Scored::Number(number) => (Json::Number(serde_json::Number::from_f64(*number)?), "NUMERIC"),
        Scored::Bool(switch) => (json!(u8::from(*switch)), "BOOLEAN"),
        Scored::Word(word) => (json!(word), "CATEGORICAL"),
    };
    let mut object = json!({
        "id": trace.score(score.of, &score.name),
        "traceId": trace.to_string(),
        "observationId": score.of.to_string(),
        "name": score.name,
        "value": value,
        "dataType": kind,
    });
    if let Some(comment) = &score.comment {
        object["comment"] = json!(comment);
    }
    if let Some(environment) = environment {
        object["environment"] = json!(environment);
    }
    Some(object.to_string())
}

/// Whether a line is a score.
pub(crate) fn is_line(line: &Json) -> bool {
    line["traceId"].is_string() && line["name"].is_string() && line.get("value").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_of_each_kind() {
        let trace = TraceId([0x0b; 16]);
        let score = |name: &str, value: Scored, comment: Option<&str>| Score {
            of: trace.span(1),
            name: name.into(),
            value,
            comment: comment.map(str::to_string),
        };
        let scores = [
            score("eval_loss", Scored::Number(1.5), None),
            score("regression_pass", Scored::Bool(false), Some("`order` fails")),
            score("verdict", Scored::Word("improved".into()), None),
        ];
        let lines: Vec<String> = scores.iter().map(|score| line(trace, Some("ci"), score).unwrap()).collect();
        insta::assert_snapshot!(lines.join("\n"));
        assert!(lines.iter().all(|line| is_line(&serde_json::from_str(line).unwrap())));
        assert_eq!(line(trace, None, &score("eval_loss", Scored::Number(f64::NAN), None)), None);
    }
}
