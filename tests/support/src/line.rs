use serde_json::Value;

/// One JSON line that a process wrote: an object with an `event`.
#[derive(Clone, Debug)]
pub struct Line(pub Value);

impl Line {
    /// Parses a line; `None` if it is not an object with an `event`.
    pub fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        value.get("event")?.as_str()?;
        Some(Self(value))
    }

    /// Tells whether this is an event of that name.
    pub fn is(&self, event: &str) -> bool {
        self.0.get("event").and_then(Value::as_str) == Some(event)
    }

    /// The field's value; `Null` if there is none.
    pub fn field(&self, key: &str) -> &Value {
        self.0.get(key).unwrap_or(&Value::Null)
    }

    /// The field's text.
    ///
    /// # Panics
    ///
    /// If there is no such field, or it is not text.
    #[track_caller]
    pub fn text(&self, key: &str) -> &str {
        match self.field(key).as_str() {
            Some(text) => text,
            None => panic!("no text {key:?} in {}", self.0),
        }
    }

    /// The field's number.
    ///
    /// # Panics
    ///
    /// If there is no such field, or it is not a whole number from 0.
    #[track_caller]
    pub fn number(&self, key: &str) -> u64 {
        match self.field(key).as_u64() {
            Some(number) => number,
            None => panic!("no number {key:?} in {}", self.0),
        }
    }
}
