//! Any text as a configuration: refused with a place, or read, written and read again.

use std::time::{Duration, Instant};

use config::{Config, FileErrors, Model, Overlay, diff, load, to_json, to_yaml};

/// The name of the file in messages.
const FILE: &str = "fuzz.yaml";
/// How long a text may take for each of its kilobytes, on a busy machine without optimization.
const WITHIN: Duration = Duration::from_secs(2);

/// A configuration in YAML.
pub fn conf(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let begin = Instant::now();
    let loaded = load(text, FILE);
    let within = WITHIN * (1 + text.len() as u32 / 1024);
    assert!(begin.elapsed() < within, "it took {:?}", begin.elapsed());
    match loaded {
        Ok((model, _)) => {
            same_again(&model, &to_yaml(model.config()).expect("what was read can be written"));
            same_again(&model, &to_json(model.config()).expect("what was read can be written"));
        }
        Err(errors) => told(text, &errors),
    }
    // What cannot run may still be laid over what does.
    if let Ok(overlay) = Overlay::parse(text, FILE) {
        let _refused = overlay.apply(&Config::default(), false);
        let _refused = overlay.apply(&Config::default(), true);
    }
}

fn same_again(model: &Model, text: &str) {
    let (again, _) = load(text, FILE).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert!(again == *model, "{:#?}\n{text}", diff(model, &again));
    assert!(diff(model, &again).is_empty(), "{text}");
    // To apply what runs changes nothing.
    let overlay = Overlay::parse(text, FILE).expect("what was read can be laid over");
    for prune in [false, true] {
        let (merged, _) = overlay.apply(model, prune).expect("what was valid is so");
        assert!(merged == *model, "{:#?}", diff(model, &merged));
    }
}

/// Each thing that is wrong has a place that the text has, or is about the whole of it.
fn told(text: &str, errors: &FileErrors) {
    assert!(!errors.errors.is_empty());
    // All that YAML 1.1 takes for the end of a line; two of them may be one.
    let ends = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    let lines = text.split(ends).count();
    for error in &errors.errors {
        assert!(!error.message.trim().is_empty(), "{error:?}");
        let Some(place) = error.location else { continue };
        let (line, column) = (place.line as usize, place.column as usize);
        // Something may be missing at the end, which is a line further on.
        assert!((1..=lines + 1).contains(&line) && column >= 1, "{error:?} in {text:?}");
    }
    let nowhere = errors.errors.iter().filter(|error| error.location.is_none());
    let whole = config::Path::root();
    for error in nowhere.take(1) {
        assert!(
            error.path == whole || errors.errors.len() > 50,
            "{error:?} has no place in {text}"
        );
    }
    for line in errors.to_string().lines().take(1) {
        assert!(line.starts_with("fuzz.yaml:"), "{line}");
    }
}
