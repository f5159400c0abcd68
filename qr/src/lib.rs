//! A link as a QR code in a terminal (ISO/IEC 18004), for a telephone's camera.
//!
//! Two modules stand one above the other in each character, because characters are twice as high as wide.

use qrcode::{Color, EcLevel, QrCode};

/// Light modules on each side (section 6.3.8), without which readers do not find it.
const QUIET: isize = 4;
/// Black on white whatever the terminal's colours are: many readers take no other.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// The picture, lines of it with their ends; `None` for text that does not fit one, which is above 2,953 bytes.
pub fn picture(text: &str) -> Option<String> {
    // A screen is clean: what else would be spent on repair makes the modules larger.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = code.width() as isize;
    let is_dark = |x: isize, y: isize| {
        (0..width).contains(&x) && (0..width).contains(&y) && code[(x as usize, y as usize)] == Color::Dark
    };
    let columns = -QUIET..width + QUIET;
    let line = |y: isize| {
        let characters = columns.clone().map(|x| match (is_dark(x, y), is_dark(x, y + 1)) {
            (true, true) => '█',
            (true, false) => '▀',
            (false, true) => '▄',
            (false, false) => ' ',
        });
        format!("{COLOURS}{}{RESET}\n", characters.collect::<String>())
    };
    Some((-QUIET..width + QUIET).step_by(2).map(line).collect())
}

/// How many columns of a terminal it takes.
pub fn columns(picture: &str) -> usize {
    let first = picture.lines().next().unwrap_or_default();
    first.trim_start_matches(COLOURS).trim_end_matches(RESET).chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a camera would see: four pixels a module, in the terminal's proportions.
    fn read(picture: &str) -> String {
        let dark = |line: &str, is_upper: bool| -> Vec<bool> {
            let line = line.trim_start_matches(COLOURS).trim_end_matches(RESET);
            line.chars().map(|shown| shown == '█' || shown == if is_upper { '▀' } else { '▄' }).collect()
        };
        let rows: Vec<Vec<bool>> = picture.lines().flat_map(|line| [dark(line, true), dark(line, false)]).collect();
        let (width, height) = (rows[0].len() * 4, rows.len() * 4);
        let mut seen =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| if rows[y / 4][x / 4] { 0 } else { 255 });
        let grids = seen.detect_grids();
        assert_eq!(grids.len(), 1, "one code is found");
        grids[0].decode().expect("it is read").1
    }

    #[test]
    fn a_camera_reads_what_was_drawn() {
        for text in [
            "https://call.example.org/#supernode://relay.example.org:4433/?pages=4480&pin=abcdefghijklmnopqrstuvwxyz",
            "x",
            &"supernode://".repeat(60),
        ] {
            let picture = picture(text).expect("it fits");
            assert_eq!(read(&picture), text);
            assert!(picture.lines().all(|line| columns(line) == columns(&picture)), "lines of one length");
        }
        assert_eq!(picture(&"x".repeat(3_000)), None);
    }
}
