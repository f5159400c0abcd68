//! Which filters make sense. `EnvFilter` takes any word for the name of a part of some program, so that a misspelt level
//! would silence the log, and it writes coloured warnings of its own about levels that a build does not have.

use tracing::{Level, level_filters::STATIC_MAX_LEVEL};
use tracing_subscriber::EnvFilter;

/// What a filter has to be, for a sentence that begins with "must be".
pub const FORM: &str = "one or several of these with commas between: off, error, warn, info or debug (trace in debug builds \
                        only), alone or for a part of the program, such as `warn,supernode_server::control=debug`";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reads a filter, if each of its parts says something that this build can do.
pub fn parse(text: &str) -> Option<EnvFilter> {
    let parts: Vec<&str> = parts(text).map(str::trim).filter(|part| !part.is_empty()).collect();
    let makes_sense = |part: &&str| match part.rsplit_once('=') {
        // What a span is called, and its fields: `[name{field=value}]`.
        _ if part.ends_with(']') => true,
        Some((name, level)) => !name.is_empty() && is_level(level),
        None => is_level(part),
    };
    (!parts.is_empty() && parts.iter().all(makes_sense)).then(|| parts.join(",").parse().ok()).flatten()
}

/// Commas within brackets part nothing.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |character| {
        match character {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
}

fn is_level(word: &str) -> bool {
    let known = LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    known && (STATIC_MAX_LEVEL >= Level::TRACE || !word.eq_ignore_ascii_case("trace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_words_that_are_no_levels_is_refused() {
        for good in ["info", "WARN", "off", super::super::DEFAULT_FILTER, "warn, quinn=debug", "info,[span{a=b}]=debug"]
        {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in ["verbose", "inf", "", " , ", "a=b=c", "supernode=loud", "supernode_server", "=info", "warn,quiet"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert_eq!(parse("trace").is_some(), cfg!(debug_assertions), "what a build leaves out cannot be asked for");
    }
}
