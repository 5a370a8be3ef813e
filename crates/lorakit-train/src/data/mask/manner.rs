//! What is known of a template from the texts that it makes of small conversations.

use std::slice::from_ref;

use serde_json::{Map, Value, json};

use crate::data::template::{self, Context, Rendered, Template};

/// What is known of a template from the texts that it makes of small conversations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::data) struct Manner {
    /// What it writes where the model answers: `<|im_start|>assistant\n`.
    header: Option<String>,
    /// What it writes after an answer: `<|im_end|>`. Several, if that depends on what follows.
    pub(in crate::data) ends: Vec<String>,
    /// Whether the prompt may give something that generation tags enclose, besides the header.
    pub(in crate::data) prompt_within_tags: bool,
    /// Whether arguments of calls must be texts: it adds them to texts.
    pub(super) arguments_as_text: bool,
}

const ANSWER: &str = "Lorem ipsum dolor";
const THINK: &str = "<think>";

impl Manner {
    /// What may stand before an answer: the header, and the header without what it says of thoughts, which templates
    /// leave out where an answer has its own.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        let whole = self.header.as_deref();
        let without = whole.and_then(|header| header.split_once(THINK)).map(|(before, _)| before);
        [whole, without].into_iter().flatten().filter(|header| !header.is_empty())
    }

    /// The length of the header with which `text` begins.
    pub(super) fn header_length(&self, text: &str) -> usize {
        self.headers().find(|header| text.starts_with(header)).map_or(0, str::len)
    }

    pub(in crate::data) fn of(
        template: &Template,
        variables: &Map<String, Value>,
        special: &[String],
    ) -> Self {
        let render = |messages: &[Value], prompt| -> Option<Rendered> {
            template.render(Context { messages, tools: None, prompt, variables }).ok()
        };
        let user = json!({"role": "user", "content": "Sit amet"});
        let answer = json!({"role": "assistant", "content": ANSWER});
        let asked = render(from_ref(&user), true);
        let header = render(from_ref(&user), false)
            .zip(asked.as_ref())
            .and_then(|(before, asked)| asked.text.strip_prefix(&before.text).map(str::to_string))
            .filter(|header| !header.is_empty());
        let answered = render(&[user.clone(), answer.clone()], false);
        let prompt_within_tags = match (&asked, &answered) {
            (Some(asked), Some(answered)) => {
                let length = asked.text.len();
                answered.text.starts_with(&asked.text)
                    && answered.generated.iter().any(|range| range.start < length && length <= range.end)
            }
            _ => false,
        };
        let prompt_within_tags =
            prompt_within_tags || header.as_ref().is_some_and(|header| header.contains(THINK));
        let tail = |rendered: Option<Rendered>| {
            let text = rendered?.text;
            text.split_once(ANSWER).map(|(_, tail)| tail.to_string())
        };
        let ends = ends(
            tail(answered).as_deref().unwrap_or_default(),
            tail(render(&[user.clone(), answer, user.clone()], false)).as_deref().unwrap_or_default(),
            special,
        );
        let call =
            json!({"type": "function", "id": "call00000", "function": {"name": "f", "arguments": {"a": 1}}});
        let call = json!({"role": "assistant", "content": "", "tool_calls": [call]});
        let result = json!({"role": "tool", "content": "1", "name": "f", "tool_call_id": "call00000"});
        let conversation = [user, call, result];
        let as_text: Vec<Value> = conversation.iter().map(arguments_as_text).collect();
        let arguments_as_text = render(&conversation, false).is_none() && render(&as_text, false).is_some();
        Self { header, ends, prompt_within_tags, arguments_as_text }
    }
}

/// What ends an answer, from what follows it at the end of a conversation and within one.
fn ends(last: &str, inner: &str, special: &[String]) -> Vec<String> {
    let both = pieces(last, special).zip(pieces(inner, special)).take_while(|(a, b)| a == b);
    let common: String = both.map(|(piece, _)| piece).collect();
    if special.iter().any(|special| common.contains(special)) {
        return vec![common.trim_end().to_string()];
    }
    let mut ends: Vec<String> = Vec::new();
    for end in [last, inner]
        .into_iter()
        .filter_map(|tail| pieces(tail, special).find(|piece| !piece.trim().is_empty()))
    {
        if !ends.iter().any(|known| known == end) {
            ends.push(end.to_string());
        }
    }
    ends
}

/// The special tokens and the white space with which `text` begins.
fn pieces<'t>(text: &'t str, special: &[String]) -> impl Iterator<Item = &'t str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let after = match special.iter().find_map(|special| rest.strip_prefix(special.as_str())) {
            Some(after) => after,
            None => rest.trim_start(),
        };
        let (piece, after) = rest.split_at(rest.len() - after.len());
        rest = after;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

/// `message` with the arguments of its calls as JSON texts.
pub(super) fn arguments_as_text(message: &Value) -> Value {
    let mut message = message.clone();
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        let inner = call.get("function").is_some();
        let function = if inner { &mut call["function"] } else { call };
        if let Some(arguments) = function.get_mut("arguments") {
            *arguments = template::json(arguments).into();
        }
    }
    message
}
