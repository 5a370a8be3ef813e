//! Why a trace cannot go where it should.

use lorakit_tensor::problems;

problems! {
    /// Why a trace cannot go where it should. No text shows a value: it may hold credentials.
    pub(crate) enum Problem {
        /// A variable is not an address.
        Url { variable: &'static str } = Usage,
            "`{variable}` must be an address that begins with http:// or https://";
        /// An address holds a name or a password.
        Credentials { variable: &'static str } = Usage,
            "`{variable}` holds credentials, which belong into headers: a message or a log may show an address";
        /// A list of pairs is not one.
        Pairs { variable: &'static str } = Usage,
            "`{variable}` must be pairs with commas between them, `NAME=VALUE,NAME=VALUE`, each percent-encoded";
        /// A header cannot be sent.
        Header { variable: &'static str, name: String } = Usage,
            "`{variable}`: the header `{}` has a name or a value that cannot be sent", name.escape_debug();
        /// A time is not one.
        Timeout { variable: &'static str } = Usage,
            "`{variable}` must be a time in milliseconds, from 1 to 600000";
        /// A protocol is another.
        Protocol { variable: &'static str } = Usage,
            "`{variable}` is `grpc`; traces are sent as JSON over HTTP: it must be `http/json` or unset, and the address \
             that of an HTTP receiver, whose usual port is 4318";
        /// One half of the keys is missing.
        HalfOfKeys { missing: &'static str } = Usage, "the keys of Langfuse are two, and `{missing}` is not set";
        /// A folder holds no traces.
        NoTraces = Usage, "holds no traces: no file ends in `.otlp.jsonl` or `.scores.jsonl`";
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;
    use crate::error::Problem as _;

    #[test]
    fn every_message() {
        let line = |problem: Problem| format!("{}: {problem}", problem.kind().name());
        let lines: Vec<String> = Problem::samples().into_iter().map(line).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
