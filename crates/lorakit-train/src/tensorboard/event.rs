//! The messages of event files: `event.proto`, `summary.proto` and `tensor.proto` of TensorFlow, as far as they are used.

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The version of the file; its first event.
    Version,
    /// A run begins at the event's step, or goes on there: what earlier files have from this step on is void.
    Start,
    /// Numbers, each with its tag.
    Scalars(Vec<(&'static str, f64)>),
    /// A text in Markdown.
    Text { tag: String, text: String },
}

impl Event {
    /// Its bytes; `wall` is in seconds since 1970.
    pub(super) fn encoded(&self, wall: f64, step: u64) -> Vec<u8> {
        let mut event = Message::default();
        event.double(1, wall);
        if step > 0 {
            event.count(2, step);
        }
        match self {
            Self::Version => event.bytes(3, b"brain.Event:2"),
            Self::Start => event.message(7, |log| log.count(1, 1)),
            Self::Scalars(values) => event.message(5, |summary| {
                for (tag, value) in values {
                    summary.message(1, |scalar| {
                        scalar.bytes(1, tag.as_bytes());
                        scalar.float(2, *value as f32);
                    });
                }
            }),
            Self::Text { tag, text } => event.message(5, |summary| {
                summary.message(1, |value| {
                    value.bytes(1, tag.as_bytes());
                    value.message(8, |tensor| {
                        // DT_STRING
                        tensor.count(1, 7);
                        tensor.message(2, |shape| shape.message(2, |dimension| dimension.count(1, 1)));
                        tensor.bytes(8, text.as_bytes());
                    });
                    value.message(9, |metadata| metadata.message(1, |plugin| plugin.bytes(1, b"text")));
                });
            }),
        }
        event.0
    }
}

/// A message under construction: fields with their numbers, as
/// [Protocol Buffers encode them](https://protobuf.dev/programming-guides/encoding/).
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A field's number, and how its value is encoded.
    fn key(&mut self, field: u64, form: u64) {
        self.varint(field << 3 | form);
    }

    fn count(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn message(&mut self, field: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }
}
