//! Checking the convention for error types.

use super::chain;
use super::report::report;

/// Checks that an error and its causes keep to the convention: no level's text contains that of the
/// next, and the report shows each once.
///
/// # Panics
///
/// If they do not, or if there is no cause.
#[track_caller]
pub fn check_levels(error: &(dyn std::error::Error + 'static)) {
    let texts: Vec<String> = chain(error)
        // Its text is that of the error inside it.
        .filter(|error| {
            let io = error.downcast_ref::<std::io::Error>();
            io.is_none_or(|io| io.get_ref().is_none())
        })
        .map(ToString::to_string)
        .collect();
    assert!(texts.len() > 1, "no cause: {texts:?}");
    for pair in texts.windows(2) {
        if let [text, cause] = pair {
            assert!(!text.contains(&**cause), "{text:?} contains {cause:?}");
        }
    }
    assert_eq!(report(error).to_string(), texts.join(": "));
}
