//! What people are told of the files that a data set does not use.

use ganomede_datasets::{Findings, MaskReport, Rejected};
use ganomede_host::line;

use crate::shared::note;

/// Lines of a list, at most.
const SHOWN: usize = 20;

/// Says which files cannot be used.
pub(crate) fn report_rejected(rejected: &[Rejected]) {
    report("files could not be used", rejected, SHOWN);
}

/// Says what is not looked at, which is known as soon as a set is open.
pub(crate) fn report_skipped(findings: &Findings) {
    if let Some(found) = &findings.found {
        note(&format!("data: {}", line(found)));
    }
    report("places hold images that are not read", &findings.skipped, SHOWN);
    report_bits(findings);
}

/// Says that the images fill a part of their range only.
pub(crate) fn report_bits(findings: &Findings) {
    if let Some(bits) = findings.bits_used {
        note(&format!(
            "the 16-bit images use {bits} bits at most, so that their values fill a part of the range only; train with --bits \
             {bits}, or what the camera gives, to use the whole"
        ));
    }
}

/// Says how masks fit, if something is wrong, which is known once all images are loaded.
pub(crate) fn report_masks(findings: &Findings) {
    if let Some(masks) = findings.masks.as_ref().filter(|masks| is_amiss(masks)) {
        mask_lines(masks, SHOWN).iter().for_each(|line| note(line));
    }
}

fn is_amiss(masks: &MaskReport) -> bool {
    let lists = [masks.missing.len(), masks.unused.len(), masks.empty.len(), masks.unusable.len()];
    lists.iter().any(|&count| count > 0)
}

/// The masks in numbers, then by name, `most` of each kind.
pub(crate) fn mask_lines(masks: &MaskReport, most: usize) -> Vec<String> {
    let MaskReport { matched, missing, unused, empty, unusable } = masks;
    let mut lines = vec![format!(
        "masks: {matched} matched, {} missing, {} empty, {} unusable, {} unused; pixel metrics leave out images without one",
        missing.len(),
        empty.len(),
        unusable.len(),
        unused.len()
    )];
    let mut list = |what: &str, names: &[String]| {
        lines.extend(names.iter().take(most).map(|name| format!("  {what}: {}", line(name))));
        if names.len() > most {
            lines.push(format!("  … and {} more {what}", names.len() - most));
        }
    };
    list("no mask found for", missing);
    list("nothing is marked in the mask of", empty);
    list(
        "unusable",
        &unusable.iter().map(|mask| format!("{}: {}", mask.path, mask.reason)).collect::<Vec<_>>(),
    );
    list("belongs to no image", unused);
    lines
}

fn report(what: &str, list: &[Rejected], most: usize) {
    if list.is_empty() {
        return;
    }
    note(&format!("{} {what}:", list.len()));
    list.iter().take(most).for_each(|file| note(&format!("  {}: {}", line(&file.path), line(&file.reason))));
    if list.len() > most {
        note(&format!("  … and {} more (`ganomede data info` lists them all)", list.len() - most));
    }
}

/// Says all of it, for `data info`.
pub(crate) fn report_all(findings: &Findings) {
    report("files could not be used", &findings.rejected, usize::MAX);
    report("places hold images that are not read", &findings.skipped, usize::MAX);
    if let Some(masks) = &findings.masks {
        mask_lines(masks, usize::MAX).iter().for_each(|line| note(line));
    }
    report_bits(findings);
}
