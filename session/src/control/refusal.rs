//! What the relay says no to.

use std::fmt;

use supernode_proto::control::{RefusalReason, Refused};

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// The field or limit at fault.
    pub detail: String,
    /// What was given, where a number says it.
    pub value: u64,
    /// What is allowed, where a number says it.
    pub bound: u64,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self { reason: refused.reason(), detail: refused.detail, value: refused.value, bound: refused.bound }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.reason.as_str_name();
        f.write_str(name.strip_prefix("REFUSAL_REASON_").unwrap_or(name))?;
        if !self.detail.is_empty() {
            write!(f, ", {}", self.detail)?;
        }
        if self.value != 0 || self.bound != 0 {
            write!(f, " = {}: {}", self.value, self.bound)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_field_value_and_bound() {
        let refused =
            Refused { reason: RefusalReason::Limit.into(), detail: "watches_max".into(), value: 65, bound: 64 };
        assert_eq!(Refusal::from(refused).to_string(), "LIMIT, watches_max = 65: 64");
        let bare = Refused { reason: RefusalReason::Offline.into(), ..Refused::default() };
        assert_eq!(Refusal::from(bare).to_string(), "OFFLINE");
    }
}
