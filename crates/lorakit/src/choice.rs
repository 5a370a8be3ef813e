//! Options whose values are listed in a table.

/// A value of an option, chosen from a table, so that user interfaces need not list the values again.
///
/// ```
/// use lorakit::Choice;
/// use lorakit::ops::combine::Style;
///
/// let names: Vec<&str> = Style::all().iter().map(|style| style.name()).collect();
/// assert_eq!(names, ["fixed", "peft", "mergekit"]);
/// assert_eq!(Style::from_name("peft"), Some(Style::Peft));
/// ```
pub trait Choice: Copy + Send + Sync + 'static {
    /// Every choice, in listing order.
    fn all() -> &'static [Self];

    /// The name of the choice.
    fn name(self) -> &'static str;

    /// Other names of the choice.
    fn aliases(self) -> &'static [&'static str] {
        &[]
    }

    /// A description of the choice, in one line.
    fn about(self) -> &'static str;

    /// The choice with that [name](Self::name) or [alias](Self::aliases).
    fn from_name(name: &str) -> Option<Self> {
        let is = |choice: &&Self| choice.name() == name || choice.aliases().contains(&name);
        Self::all().iter().find(is).copied()
    }
}

/// Makes an enum a [`Choice`]: one line per variant, with its name and its description.
macro_rules! choices {
    ($enum:ident { $($variant:ident = $name:literal, $about:literal;)* }) => {
        impl $crate::Choice for $enum {
            fn all() -> &'static [Self] {
                &[$(Self::$variant),*]
            }

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),* }
            }
        }
    };
}
pub(crate) use choices;
