//! What must hold for a run to pass: `p99_delay_ms < 20 && loss < 0.1%`.
//!
//! ```text
//! expression = all { "||" all }
//! all        = term { "&&" term }
//! term       = "(" expression ")" | name compare number [ "%" ]
//! compare    = "<" | "<=" | ">" | ">=" | "==" | "!="
//! ```

use std::fmt;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Compare { name: &'static str, compare: Compare, bound: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Equal,
    NotEqual,
}

/// Why text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expression:?}, at {rest:?}: {what} was expected")]
pub struct SloError {
    expression: String,
    rest: String,
    what: String,
}

/// What an expression can speak of; shares are 0 to 1, so that `0.1%` is 0.001.
pub const NAMES: &[&str] = &[
    "p50_delay_ms",
    "p90_delay_ms",
    "p99_delay_ms",
    "p999_delay_ms",
    "max_delay_ms",
    "p50_setup_ms",
    "p99_setup_ms",
    "max_setup_ms",
    "loss",
    "late",
    "duplicates",
    "reordered",
    "trespasses",
    "delivered",
    "delivered_per_s",
    "sessions_lost",
    "refused",
    "opened_per_s",
    "relay_cpu_us_per_session_opened",
    "relay_cpu_us_per_delivered",
    "relay_rss_mib",
];

impl Slo {
    /// Parses an expression.
    ///
    /// # Errors
    /// [`SloError`] with the place and what was expected there.
    pub fn parse(expression: &str) -> Result<Self, SloError> {
        let mut parser = Parser { rest: expression };
        let root = parser
            .any()
            .and_then(|root| if parser.rest.trim().is_empty() { Ok(root) } else { Err("&& or ||".to_owned()) });
        root.map(|root| Self { root }).map_err(|what| SloError {
            expression: expression.to_owned(),
            rest: parser.rest.trim().to_owned(),
            what,
        })
    }

    /// What it speaks of.
    pub fn names(&self) -> Vec<&'static str> {
        self.root.names()
    }

    /// Whether it holds. A value that is not known holds nothing.
    pub fn holds(&self, value: &impl Fn(&str) -> Option<f64>) -> bool {
        self.root.holds(value)
    }
}

impl Node {
    fn names(&self) -> Vec<&'static str> {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().flat_map(Self::names).collect(),
            Self::Compare { name, .. } => vec![name],
        }
    }

    fn holds(&self, value: &impl Fn(&str) -> Option<f64>) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.holds(value)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(value)),
            Self::Compare { name, compare, bound } => value(name).is_some_and(|value| match compare {
                Compare::Less => value < *bound,
                Compare::LessOrEqual => value <= *bound,
                Compare::More => value > *bound,
                Compare::MoreOrEqual => value >= *bound,
                Compare::Equal => value == *bound,
                Compare::NotEqual => value != *bound,
            }),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.all()?];
        while self.take("||") {
            nodes.push(self.all()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
    }

    fn all(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.term()?];
        while self.take("&&") {
            nodes.push(self.term()?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
    }

    fn term(&mut self) -> Result<Node, String> {
        if self.take("(") {
            let inner = self.any()?;
            return if self.take(")") { Ok(inner) } else { Err("\")\"".to_owned()) };
        }
        let before = self.rest;
        let word = self.word(|character| character.is_ascii_alphanumeric() || character == '_');
        let Some(name) = NAMES.iter().find(|name| **name == word) else {
            self.rest = before;
            return Err(format!("a name ({})", NAMES.join(", ")));
        };
        let compare = self.compare().ok_or("a comparison")?;
        let before = self.rest;
        let number = self.word(|character| character.is_ascii_digit() || ".eE-+".contains(character));
        let Ok(number) = number.parse::<f64>() else {
            self.rest = before;
            return Err("a number".to_owned());
        };
        let bound = if self.take("%") { number / 100.0 } else { number };
        Ok(Node::Compare { name, compare, bound })
    }

    fn compare(&mut self) -> Option<Compare> {
        let all = [
            ("<=", Compare::LessOrEqual),
            (">=", Compare::MoreOrEqual),
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<", Compare::Less),
            (">", Compare::More),
        ];
        all.into_iter().find(|(sign, _)| self.take(sign)).map(|(_, compare)| compare)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest.trim_start().strip_prefix(sign);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let trimmed = self.rest.trim_start();
        let end = trimmed.find(|character| !belongs(character)).unwrap_or(trimmed.len());
        self.rest = &trimmed[end..];
        &trimmed[..end]
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |nodes: &[Self], sign| nodes.iter().map(|node| format!("{node}")).collect::<Vec<_>>().join(sign);
        match self {
            Self::All(nodes) => write!(f, "({})", join(nodes, " && ")),
            Self::Any(nodes) => write!(f, "({})", join(nodes, " || ")),
            Self::Compare { name, compare, bound } => {
                let sign = match compare {
                    Compare::Less => "<",
                    Compare::LessOrEqual => "<=",
                    Compare::More => ">",
                    Compare::MoreOrEqual => ">=",
                    Compare::Equal => "==",
                    Compare::NotEqual => "!=",
                };
                write!(f, "{name} {sign} {bound}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(expression: &str) -> bool {
        let value = |name: &str| match name {
            "p99_delay_ms" => Some(12.5),
            "loss" => Some(0.0005),
            "delivered" => Some(1000.0),
            _ => None,
        };
        Slo::parse(expression).expect(expression).holds(&value)
    }

    #[test]
    fn comparisons_and_percentages_are_what_they_say() {
        for expression in [
            "p99_delay_ms < 20 && loss < 0.1%",
            "p99_delay_ms<=12.5",
            "p99_delay_ms == 12.5",
            "delivered >= 1e3",
            "loss != 0",
            "loss > 0.04%",
        ] {
            assert!(holds(expression), "{expression}");
        }
        for expression in ["p99_delay_ms < 12.5", "p99_delay_ms > 12.5", "p99_delay_ms < 20 && loss < 0.01%"] {
            assert!(!holds(expression), "{expression}");
        }
    }

    #[test]
    fn and_binds_closer_than_or_and_parentheses_closer_still() {
        assert!(holds("loss == 0 && loss == 0 || delivered == 1000"));
        assert!(!holds("loss == 0 && (loss == 0 || delivered == 1000)"));
    }

    #[test]
    fn what_was_not_measured_holds_nothing() {
        assert!(!holds("relay_rss_mib < 100"));
        assert!(!holds("relay_rss_mib >= 0"));
    }

    #[test]
    fn errors_say_where_and_what() {
        let error = |expression| Slo::parse(expression).expect_err(expression).to_string();
        assert_eq!(error("loss 0.1%"), "\"loss 0.1%\", at \"0.1%\": a comparison was expected");
        assert_eq!(error("loss < x"), "\"loss < x\", at \"x\": a number was expected");
        assert_eq!(error("loss < 1 loss"), "\"loss < 1 loss\", at \"loss\": && or || was expected");
        assert_eq!(error("(loss < 1"), "\"(loss < 1\", at \"\": \")\" was expected");
        assert!(error("los < 1").starts_with("\"los < 1\", at \"los < 1\": a name (p50_delay_ms,"));
    }

    #[test]
    fn it_prints_as_it_was_understood() {
        let slo = Slo::parse("loss < 0.1% && (late < 1 || delivered > 5)").expect("an expression");
        assert_eq!(slo.to_string(), "(loss < 0.001 && (late < 1 || delivered > 5))");
    }
}
