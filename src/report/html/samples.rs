//! Sheets of samples: their pixels are shown at whole multiples of their size, so that no pattern appears
//! which is not in them.

use super::panels::inline_png;
use super::{ReportError, ReportInput, Supplement, escape};
use crate::report::picture::{enlarged, first_rows, reduced};
use image::RgbImage;

/// Width of a sheet that small ones are enlarged towards, in pixels of the page.
const WIDTH: u32 = 700;
/// Width that large ones are reduced to.
const WIDEST: u32 = 1100;
/// Height of what is shown of a sheet among others: as many whole rows of samples as fit.
const STRIP: u32 = 72;

/// The section with the sheet at the end of training, and how the samples came about.
pub(super) fn section(input: &ReportInput, extra: &Supplement) -> Result<String, ReportError> {
    let what = match extra.reconstructs {
        true => "normal images, each beside its reconstruction",
        false => "images drawn by the generator from random latent vectors",
    };
    let strip = |(name, sheet): &(String, RgbImage)| {
        let row = figure(&first_rows(sheet, STRIP), &format!("{what}, {name}"))?;
        Ok(format!("<tr><th scope=row>{}</th><td>{row}</td></tr>", escape(name)))
    };
    let strips: Result<String, ReportError> = extra.timeline.iter().map(strip).collect();
    let strips = strips?;
    let mut html = String::new();
    if !strips.is_empty() {
        html += &format!(
            "<div class=\"table scroll\"><table class=strips><tbody>{strips}</tbody></table></div><p class=note>The \
             first of each sheet of {what}, over training.</p>"
        );
    }
    if let Some(sheet) = &input.samples {
        let sheet = figure(sheet, &format!("Sheet of {what}, end of training"))?;
        html += &format!(
            "<div class=\"sheet scroll\">{sheet}</div><p class=note>{what}, at the end of training.</p>"
        );
    }
    Ok(if html.is_empty() { html } else { format!("<h2>Samples</h2>{html}") })
}

/// A sheet at a whole multiple, or a whole part, of its size.
fn figure(sheet: &RgbImage, alt: &str) -> Result<String, ReportError> {
    let times = (WIDTH / sheet.width()).max(1);
    match sheet.width().div_ceil(WIDEST) {
        0 | 1 => inline_png(&enlarged(sheet, times), alt),
        part => inline_png(&reduced(sheet, part), alt),
    }
}
