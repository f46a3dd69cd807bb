//! Images in detail: query, reconstruction, map, overlay, ground truth.

use super::{breakable, escape, outcome, truth};
use crate::report::page::classes;
use crate::report::picture::{enlarged, frame, heat_colour, heat_map, overlay, picture, png, truth_overlay};
use crate::report::plot::{number, significant};
use crate::report::{Panel, ReportError, ReportInput};
use base64::{Engine, prelude::BASE64_STANDARD};
use image::{RgbImage, imageops};

/// Longest side of an inlined picture, in pixels.
const MAX_SIDE: u32 = 256;
/// Share of the maps' values below the top colour; the rest saturates, so one hot pixel cannot darken all.
const SCALE_QUANTILE: f64 = 0.995;

/// The section with all panels, by class, highest scores first.
pub(super) fn section(input: &ReportInput) -> Result<String, ReportError> {
    if input.panels.is_empty() {
        return Ok(String::new());
    }
    let scale = common_scale(input.panels.iter().flat_map(|p| &p.map));
    let mut known = classes(&input.images);
    for panel in &input.panels {
        if !known.iter().any(|(class, _)| *class == panel.class) {
            known.push((&panel.class, None));
        }
    }
    let mut html = format!(
        "<h2>Images</h2><p class=note>The highest and lowest scores of each class; click one to enlarge it. {}Heat maps \
         share one scale: 0\
         <span class=scale style=\"background:{}\"></span>{}</p>",
        if input.panels.iter().any(|panel| panel.whole.is_some()) {
            "Of a large image its tile with the highest score is shown, and where in the whole it lies. "
        } else {
            ""
        },
        gradient(),
        number(f64::from(scale))
    );
    for (class, anomalous) in known {
        let mut of: Vec<&Panel> = input.panels.iter().filter(|p| p.class == class).collect();
        if of.is_empty() {
            continue;
        }
        of.sort_by(|a, b| b.score.total_cmp(&a.score));
        let (highest, lowest) = of.split_at(of.len().div_ceil(2));
        let name = if class.is_empty() { "unnamed class" } else { class };
        html += &format!(
            "<div class=group><h3>{}</h3>{}</div><div class=columns>",
            escape(name),
            truth(anomalous)
        );
        for (which, panels) in [("highest scores", highest), ("lowest scores", lowest)] {
            let drawn: Result<String, ReportError> =
                panels.iter().map(|p| card(p, anomalous, input, scale)).collect();
            html +=
                &format!("<div><p class=note>{which}</p><div class=\"panels scroll\">{}</div></div>", drawn?);
        }
        html += "</div>";
    }
    Ok(html)
}

fn card(p: &Panel, anomalous: Option<bool>, input: &ReportInput, scale: f32) -> Result<String, ReportError> {
    let (h, w, c) = (p.height, p.width, p.channels);
    let mut tiles = vec![("image", picture(&p.query, c, h, w)?)];
    if let Some(reconstruction) = &p.reconstruction {
        tiles.push(("rebuilt", picture(reconstruction, c, h, w)?));
    }
    tiles.push(("map", heat_map(&p.map, h, w, scale)?));
    tiles.push(("overlay", overlay(&p.query, c, &p.map, h, w, scale)?));
    if let Some(mask) = p.mask.as_ref().filter(|m| m.contains(&true)) {
        tiles.push(("truth", truth_overlay(&p.query, c, mask, h, w)?));
    }
    if let Some(whole) = &p.whole {
        let [h, w] = [whole.height, whole.width];
        let mut framed = |name, mut drawn: RgbImage| {
            frame(&mut drawn, whole.tile);
            tiles.push((name, drawn));
        };
        framed("in the whole", overlay(&whole.query, 3, &whole.map, h, w, scale)?);
        if let Some(mask) = whole.mask.as_ref().filter(|m| m.contains(&true)) {
            framed("whole truth", truth_overlay(&whole.query, 3, mask, h, w)?);
        }
    }
    let count = tiles.len();
    let tiles: Result<String, ReportError> =
        tiles.iter().map(|(name, image)| tile(name, image, &p.id)).collect();
    let verdict = input.evaluation.threshold.as_ref().map(|t| p.score >= t.value);
    Ok(format!(
        "<article class=panel><header><span class=id>{}</span><span><span class=score>{}</span> {}</span></header>\
         <div class=tiles style=\"--n:{count}\">{}</div></article>",
        breakable(&p.id),
        significant(p.score),
        outcome(anomalous, verdict, input.evaluation.skill()),
        tiles?
    ))
}

/// A picture of an image under its caption. Small pictures are enlarged by a whole factor, which the page
/// names: a browser shrinks what it shows smoothly, and enlarges it in squares.
pub(super) fn tile(name: &str, image: &RgbImage, id: &str) -> Result<String, ReportError> {
    let longest = image.width().max(image.height());
    let (picture, times) = match longest > MAX_SIDE {
        true => {
            let side = |s: u32| (u64::from(s) * u64::from(MAX_SIDE) / u64::from(longest)).max(1) as u32;
            let [w, h] = [side(image.width()), side(image.height())];
            (imageops::resize(image, w, h, imageops::FilterType::Triangle), 1)
        }
        false => (enlarged(image, MAX_SIDE / longest), MAX_SIDE / longest),
    };
    let picture = inline_png(&picture, &format!("{name} of {id}"))?;
    Ok(format!("<figure data-times={times}>{picture}<figcaption>{name}</figcaption></figure>"))
}

/// An image element that carries its own PNG.
pub(super) fn inline_png(image: &RgbImage, alt: &str) -> Result<String, ReportError> {
    let (w, h, data) = (image.width(), image.height(), BASE64_STANDARD.encode(png(image)?));
    Ok(format!(
        "<img alt=\"{}\" width={w} height={h} loading=lazy src=\"data:image/png;base64,{data}\">",
        escape(alt)
    ))
}

/// One scale for all maps, so that their colours compare.
pub(super) fn common_scale<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    let mut values: Vec<f32> = values.copied().filter(|v| v.is_finite()).collect();
    values.sort_unstable_by(f32::total_cmp);
    let at = (values.len() as f64 * SCALE_QUANTILE) as usize;
    values.get(at).or(values.last()).copied().filter(|v| *v > 0.0).unwrap_or(1.0)
}

/// The heat map's colours as a CSS gradient.
fn gradient() -> String {
    let stop = |i: u32| {
        let [r, g, b] = heat_colour(f64::from(i) / 8.0);
        format!("#{r:02x}{g:02x}{b:02x}")
    };
    format!("linear-gradient(90deg,{})", (0..=8).map(stop).collect::<Vec<_>>().join(","))
}
