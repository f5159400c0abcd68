//! What went wrong, as people are told it.

use std::error::Error as _;

use serde::Serialize;
use supernode_client::{Error, words::Words};
use wasm_bindgen::JsValue;

/// The three parts, and what a developer wants beside them.
#[derive(Debug, Serialize)]
pub(crate) struct Trouble {
    /// By what programs know it.
    name: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
    /// The error with all that is behind it.
    detail: String,
}

impl Trouble {
    pub(crate) fn of(error: &Error) -> Self {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(behind) = source {
            detail += &format!(": {behind}");
            source = behind.source();
        }
        Self::by_words(error.words(), detail)
    }

    pub(crate) fn by_words(words: &'static Words, detail: String) -> Self {
        let said = |text: &'static str, nothing: &str| (text != nothing).then(|| text.to_owned());
        let (why, todo) = (said(words.why, "as is said"), said(words.todo, "nothing"));
        Self { name: words.name, what: words.what.to_owned(), why, todo, detail }
    }

    /// Of this crate's own.
    pub(crate) fn new(name: &'static str, what: &str, why: &str, todo: &str) -> Self {
        let (what, why, todo) = (what.to_owned(), Some(why.to_owned()), Some(todo.to_owned()));
        Self { name, detail: what.clone(), what, why, todo }
    }

    /// As it is thrown: text in JSON.
    pub(crate) fn thrown(&self) -> JsValue {
        JsValue::from_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

/// For `map_err`.
pub(crate) fn thrown(error: Error) -> JsValue {
    Trouble::of(&error).thrown()
}
