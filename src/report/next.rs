//! What a report suggests to do next, as commands of the `ganomede` program.

use std::path::Path;

use super::{ComparedSystem, NextStep};
use crate::eval::{Evaluation, Skill};

/// Rate of false alarms, as a multiple of what was promised, from which on it is worth a word.
const TOO_MANY: f64 = 2.0;

/// After one evaluation of the model at `path` on `data`, whose threshold promises a `rate` of false alarms.
pub(crate) fn after_eval(e: &Evaluation, path: &Path, data: &str, rate: f64) -> Vec<NextStep> {
    let (model, data) = (word(&path.to_string_lossy()), word(data));
    let mut steps = vec![];
    match e.skill() {
        Skill::None | Skill::Inverted => steps.push(step(
            "The ranking is not shown to be better than chance: see whether another system does better on these data \
             before anything is built on this one.",
            format!("ganomede compare --systems pca,ae,ganomaly --data {data} --minutes 5 --report compare/"),
        )),
        Skill::Shown => steps.push(step(
            "Score new images; a verdict is given by the threshold of this page.",
            format!("ganomede score {model} new/"),
        )),
        Skill::Unknown => steps.push(step(
            "AUROC needs normal and anomalous test images: put some of both beside the data and evaluate again.",
            format!("ganomede eval {model} --data {data} --report report/"),
        )),
    }
    if let Some(false_alarms) = e.threshold.as_ref().and_then(|t| t.false_alarm_rate)
        && false_alarms > TOO_MANY * rate
    {
        steps.push(step(
            &format!(
                "{:.1} % of the normal test images are flagged where {:.1} % were meant: test images differ from those \
                 that were trained on. Look at the highest scores of the normal class above, and train on images like \
                 them too.",
                100.0 * false_alarms,
                100.0 * rate
            ),
            format!("ganomede data info {data}"),
        ));
    }
    if e.skill() == Skill::Shown {
        steps.push(step(
            "One training is one draw: see how much the numbers change with the seed.",
            format!("ganomede eval {model} --data {data} --seeds 3"),
        ));
    }
    steps
}

/// After a comparison on `data`; of each system one of the `models`, in their order.
pub(crate) fn after_compare<'a>(
    systems: &'a [ComparedSystem],
    models: impl Iterator<Item = &'a Path>,
    data: &str,
) -> Vec<NextStep> {
    let auroc = |e: &Evaluation| e.auroc.unwrap_or(f64::NEG_INFINITY);
    let systems = systems.iter().map(|s| &s.evaluation).zip(models);
    let Some((best, model)) = systems.max_by(|a, b| auroc(a.0).total_cmp(&auroc(b.0))) else { return vec![] };
    let (model, data) = (word(&model.to_string_lossy()), word(data));
    if best.skill() != Skill::Shown {
        return vec![step(
            "No system is shown to be better than chance: give them more time, larger images, or more test images.",
            format!(
                "ganomede compare --systems {} --data {data} --minutes 20 --report compare/",
                best.system
            ),
        )];
    }
    vec![
        step(
            "Look at the best one closely: its curves, its scores, the images that it gets wrong.",
            format!("ganomede eval {model} --data {data} --report report/"),
        ),
        step("Score new images with it.", format!("ganomede score {model} new/")),
    ]
}

fn step(text: &str, command: String) -> NextStep {
    NextStep { text: text.to_owned(), command }
}

/// A word of a command line, quoted where a shell would read it otherwise.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-:=,*+@%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::EvaluationInput;

    fn evaluation(scores: &[f64]) -> Evaluation {
        let truths: Vec<bool> = (0..scores.len()).map(|i| i % 2 == 1).collect();
        Evaluation::new(&EvaluationInput { system: "ae", scores, truths: &truths, ..Default::default() })
            .unwrap()
    }

    #[test]
    fn a_model_without_skill_is_not_put_to_use() {
        let path = Path::new("my parts/ae.safetensors");
        let apart: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
        let good = after_eval(&evaluation(&apart), path, "parts/", 0.05);
        assert!(good[0].command.starts_with("ganomede score 'my parts/ae.safetensors'"), "{good:?}");
        for scores in [vec![1.0; 40], apart.iter().map(|s| -s).collect()] {
            let bad = after_eval(&evaluation(&scores), path, "parts/", 0.05);
            assert!(bad.iter().all(|s| !s.command.contains("score")), "{bad:?}");
            assert!(bad[0].command.contains("compare"), "{bad:?}");
        }
    }

    #[test]
    fn words_of_commands_are_one_word_to_a_shell() {
        assert_eq!(
            ["a/b:c=1,d", "a b", "it's", "-x", ""].map(word),
            ["a/b:c=1,d", "'a b'", r"'it'\''s'", "'-x'", "''"]
        );
    }
}
