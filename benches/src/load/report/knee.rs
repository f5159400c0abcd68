//! Looking for the most that holds: twice as much until something does not, then halfway between, again and again.

/// The most that was found to hold, and the least that was found not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knee {
    /// `None` if not even the first did.
    pub holds: Option<u64>,
    /// `None` if everything did.
    pub fails: Option<u64>,
}

/// Tries from `from` up to `to`, until both sides of the knee are within 5 % of each other.
///
/// # Errors
/// That of `holds`, which says of a value whether it does.
pub fn search<E>(from: u64, to: u64, mut holds: impl FnMut(u64) -> Result<bool, E>) -> Result<Knee, E> {
    let mut knee = Knee { holds: None, fails: None };
    let mut next = from;
    loop {
        match holds(next)? {
            true => knee.holds = Some(next),
            false => knee.fails = Some(next),
        }
        next = match (knee.holds, knee.fails) {
            // Less was not asked for.
            (None, _) => return Ok(knee),
            (Some(good), None) if good >= to => return Ok(knee),
            (Some(good), None) => (good * 2).min(to),
            (Some(good), Some(bad)) if bad - good <= (good / 20).max(1) => return Ok(knee),
            (Some(good), Some(bad)) => good.midpoint(bad),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_found_with_few_tries_and_within_what_was_asked_for() {
        let find = |from, to, most: u64| {
            let mut tries = 0;
            let knee = search(from, to, |value| {
                tries += 1;
                Ok::<_, ()>(value <= most)
            });
            (knee.expect("no error"), tries)
        };
        let (knee, tries) = find(10, 2000, 430);
        let (good, bad) = (knee.holds.expect("some"), knee.fails.expect("some"));
        assert!(good <= 430 && 430 < bad && bad - good <= good / 20, "{knee:?}");
        assert!(tries <= 11, "{tries}");
        assert_eq!(find(1, 64, 5).0, Knee { holds: Some(5), fails: Some(6) });
        assert_eq!(find(10, 100, 9).0, Knee { holds: None, fails: Some(10) });
        assert_eq!(find(10, 100, 1000).0, Knee { holds: Some(100), fails: None });
        assert_eq!(find(10, 100, 1000).1, 5, "10, 20, 40, 80, 100");
    }
}
