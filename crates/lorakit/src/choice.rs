//! Options that are one of a table.

/// One of the things that an option can be: a table, so that whoever offers the option need not list them again.
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
    /// Every one, in the order to list them in.
    fn all() -> &'static [Self];

    /// What it is called.
    fn name(self) -> &'static str;

    /// What else it is called.
    fn aliases(self) -> &'static [&'static str] {
        &[]
    }

    /// What it is, in one line.
    fn about(self) -> &'static str;

    /// The one of that [name](Self::name) or [alias](Self::aliases).
    fn from_name(name: &str) -> Option<Self> {
        let is = |choice: &&Self| choice.name() == name || choice.aliases().contains(&name);
        Self::all().iter().find(is).copied()
    }
}

/// Makes an enum a [`Choice`]: a line for each variant, with its name and what it is.
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
