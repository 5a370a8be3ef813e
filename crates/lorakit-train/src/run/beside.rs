//! What runs left beside their adapters: how these were trained is how they are asked.

use std::path::Path;

use crate::Result;
use crate::settings::Settings;

/// The settings of a run, and the template that it was told to use, in the folder of its adapter.
const RUN: &str = "run.yaml";
const TEMPLATE: &str = "chat_template.jinja";

/// Which tokens are trained, the chat template with its variables, and the day that it writes: each as the first of
/// `adapters` has it whose folder tells.
///
/// # Errors
/// As [`Settings::open`], if a `run.yaml` is none.
pub fn told<'p>(adapters: impl IntoIterator<Item = &'p Path>) -> Result<Settings> {
    let mut told = Settings::new();
    let mut runs = 0;
    for adapter in adapters {
        let folder = if adapter.is_dir() { adapter } else { adapter.parent().unwrap_or(Path::new("")) };
        let run = folder.join(RUN);
        if run.is_file() {
            let own = Settings::open(&run)?;
            if runs == 0 {
                told.train_on = own.train_on;
            }
            runs += 1;
            told.template_day = told.template_day.or(own.template_day);
            let variables = &mut told.template_kwargs.0;
            for (name, value) in own.template_kwargs.0 {
                if variables.iter().all(|(known, _)| *known != name) {
                    variables.push((name, value));
                }
            }
        }
        let template = folder.join(TEMPLATE);
        if told.chat_template.is_none() && template.is_file() {
            told.chat_template = Some(template);
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::data::TrainOn;

    #[test]
    fn the_first_that_tells_decides() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, first, second] = ["plain", "first", "second"].map(|name| folder.path().join(name));
        for path in [&plain, &first, &second] {
            fs::create_dir(path).unwrap();
        }
        let one = "train_on: all\ntemplate_kwargs: {thinks: false}\n";
        let other =
            "train_on: last-turn\ntemplate_day: 2026-01-02\ntemplate_kwargs: {thinks: true, short: yes}\n";
        fs::write(first.join(RUN), one).unwrap();
        fs::write(second.join(RUN), other).unwrap();
        fs::write(second.join(TEMPLATE), "{{ messages }}").unwrap();
        fs::write(second.join("adapter.gguf"), "").unwrap();
        let file = second.join("adapter.gguf");
        let found = told([plain.as_path(), first.as_path(), file.as_path()]).unwrap();
        assert_eq!(found.train_on, TrainOn::All);
        assert_eq!(found.template_day.map(|day| day.to_string()), Some("2026-01-02".into()));
        assert_eq!(found.chat_template, Some(second.join(TEMPLATE)));
        let kwargs = found.template_kwargs.0;
        let kwargs: Vec<_> = kwargs.iter().map(|(name, value)| (name.as_str(), value.json())).collect();
        assert_eq!(kwargs, [("thinks", false.into()), ("short", "yes".into())]);
        assert_eq!(told([plain.as_path()]).unwrap(), Settings::new());
        fs::write(plain.join(RUN), "[").unwrap();
        assert!(told([plain.as_path()]).is_err());
    }
}
