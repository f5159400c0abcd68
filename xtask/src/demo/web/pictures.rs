//! What is seen, by the colours of its fields.

/// The mean colours of the fields of a picture, one after the other.
pub(super) type Fields = Vec<f64>;

/// Two pictures are the same one, made smaller and compressed, if their fields' colours differ by less than so much, of 255, on
/// average.
const DIFFERENCE_MAX: f64 = 12.0;
/// Pictures that were seen and must be among those that were shown.
const ALIKE_MIN: f64 = 0.8;
/// Different ones of those that were shown: a picture that stands still is no video.
const DIFFERENT_MIN: usize = 5;

/// What became of pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How often somebody looked.
    pub(super) looks: usize,
    /// When they saw a picture that was shown.
    pub(super) alike: usize,
    /// How many different ones.
    pub(super) different: usize,
}

impl Seen {
    /// Looks for each picture that was seen among those that were shown.
    pub(super) fn compare(shown: &[Fields], seen: &[Fields]) -> Self {
        let mut found = vec![false; shown.len()];
        let mut alike = 0;
        for look in seen {
            let nearest = shown.iter().map(|picture| difference(picture, look)).enumerate();
            if let Some((at, difference)) = nearest.min_by(|(_, a), (_, b)| a.total_cmp(b))
                && difference < DIFFERENCE_MAX
            {
                alike += 1;
                found[at] = true;
            }
        }
        Self { looks: seen.len(), alike, different: found.into_iter().filter(|found| *found).count() }
    }

    pub(super) fn is_seen(&self) -> bool {
        self.different >= DIFFERENT_MIN && self.alike as f64 >= ALIKE_MIN * self.looks as f64
    }

    /// For people.
    pub(super) fn line(&self) -> String {
        let Self { looks, alike, different } = self;
        format!("of {looks} looks {alike} saw what was shown, {different} different pictures")
    }
}

fn difference(one: &Fields, other: &Fields) -> f64 {
    if one.is_empty() || one.len() != other.len() {
        return f64::INFINITY;
    }
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).sum::<f64>() / one.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright field that goes round on a dark ground.
    fn film(pictures: usize) -> Vec<Fields> {
        (0..pictures).map(|at| (0..8).map(|field| if field == at % 8 { 250.0 } else { 20.0 }).collect()).collect()
    }

    #[test]
    fn a_film_is_seen_if_its_pictures_are_and_move() {
        let shown = film(20);
        let blurred: Vec<Fields> =
            shown.iter().map(|picture| picture.iter().map(|c| c * 0.95 + 3.0).collect()).collect();
        let seen = Seen::compare(&shown, &blurred);
        assert!(seen.is_seen(), "{seen:?}");
        assert_eq!(seen.line(), "of 20 looks 20 saw what was shown, 8 different pictures");

        assert!(!Seen::compare(&shown, &vec![shown[0].clone(); 20]).is_seen(), "it stands still");
        assert!(!Seen::compare(&shown, &vec![vec![128.0; 8]; 20]).is_seen(), "grey");
        assert!(!Seen::compare(&shown, &vec![vec![0.0; 8]; 20]).is_seen(), "black");
        let mut mostly_grey = film(20);
        mostly_grey[..6].fill(vec![128.0; 8]);
        assert!(!Seen::compare(&shown, &mostly_grey).is_seen(), "a third is something else");
        assert!(!Seen::compare(&shown, &[]).is_seen(), "nothing seen");
        assert!(!Seen::compare(&[], &film(20)).is_seen(), "nothing shown");
        assert!(!Seen::compare(&shown, &vec![vec![20.0; 4]; 20]).is_seen(), "of another shape");
    }
}
