//! `--config run.toml`: arguments from a file, and the file that every run with an output leaves beside it.
//! Both are made of what the command line knows: keys are the names of flags, and the file is read by adding
//! its arguments to those that were typed.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use ganomede::report::write_atomic;
use ganomede_datasets::files;
use toml::{Table, Value};

use super::{CliError, note, shown};

/// Bytes of a file of settings.
const MAX_BYTES: u64 = 1 << 20;
/// First words of a file that was written here: no other file is replaced.
const MARK: &str = "# Settings of a run of ganomede";
/// The key that names the command.
const COMMAND: &str = "command";
/// Arguments that say where results go, the first of them that is given counts; whether it is a folder.
const OUTPUTS: [(&str, bool); 8] = [
    ("out", false),
    ("report", true),
    ("film", false),
    ("maps", true),
    ("svg", false),
    ("csv", false),
    ("plot", false),
    ("write", false),
];
/// Commands whose runs have settings worth repeating.
const RUNS: [&str; 7] = ["train", "score", "eval", "compare", "search", "demo", "bench"];
/// Arguments that are not a setting of a run.
const NOT_KEPT: [&str; 4] = ["config", "json", "help", "version"];

/// What was typed, with the settings of the file that it names.
///
/// # Errors
/// For a file that cannot be read or has keys that the command does not know.
pub(crate) fn arguments(command: &Command, typed: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let command = &built(command);
    let lenient = command.clone().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(&typed) else { return Ok(typed) };
    let (names, leaf) = leaf(&matches);
    let Some(path) = leaf.try_get_one::<PathBuf>("config").ok().flatten() else { return Ok(typed) };
    let Some(sub) = find(command, &names) else { return Ok(typed) };
    let refused = |reason: String| CliError::input(format!("--config {}: {reason}", shown(path)));
    let bytes = files::read_limited(path, MAX_BYTES).map_err(|e| refused(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| refused("it is not text in UTF-8".to_owned()))?;
    let table: Table = text.parse().map_err(|e: toml::de::Error| refused(e.to_string().trim().to_owned()))?;

    let is_typed = |arg: &Arg| leaf.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    let known: Vec<&Arg> = sub.get_arguments().collect();
    let has_position = known.iter().any(|arg| arg.is_positional() && is_typed(arg));
    let (mut flags, mut positions) = (vec![], vec![]);
    // Before the keys: those of another command are not this one's.
    let asked = names.join(" ");
    if let Some(value) = table.get(COMMAND).filter(|value| value.as_str() != Some(&asked)) {
        return Err(refused(format!("it is of `ganomede {}`, this is `ganomede {asked}`", plain(value))));
    }
    for (key, value) in table.iter().filter(|(key, _)| *key != COMMAND) {
        let Some(arg) =
            known.iter().find(|arg| key_of(arg) == *key && !NOT_KEPT.contains(&arg.get_id().as_str()))
        else {
            return Err(refused(unknown(key, &known, &names)));
        };
        if arg.is_positional() {
            let values = texts(value).ok_or_else(|| refused(wrong(key)))?;
            positions.extend(values.into_iter().filter(|_| !has_position).map(|v| (arg.get_index(), v)));
        } else if !is_typed(arg) {
            flags.extend(flag(arg, key, value).ok_or_else(|| refused(wrong(key)))?);
        }
    }
    positions.sort_by_key(|(index, _)| *index);
    // Right behind the names of the command, so that what was typed ends as it ended.
    let at = after_names(&typed, &names);
    let mut all = typed[..at].to_vec();
    all.extend(flags.into_iter().chain(positions.into_iter().map(|(_, value)| value)).map(OsString::from));
    all.extend_from_slice(&typed[at..]);
    Ok(all)
}

/// With positions numbered and with each command's share of what commands above it have.
fn built(command: &Command) -> Command {
    let mut command = command.clone();
    command.build();
    command
}

/// The settings of a run as text, and the place for them beside its output, if it has one.
pub(crate) struct Settings {
    path: PathBuf,
    text: String,
    /// The file that the run was given.
    given: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn of(command: &Command, matches: &ArgMatches) -> Option<Self> {
        let command = &built(command);
        let (names, leaf) = leaf(matches);
        let sub = find(command, &names).filter(|_| RUNS.contains(&names[0].as_str()))?;
        let path = OUTPUTS.iter().find_map(|(name, is_folder)| {
            let arg = sub.get_arguments().find(|arg| arg.get_id() == name)?;
            let raw = leaf.try_get_raw(arg.get_id().as_str()).ok().flatten()?.next()?;
            (raw != "-").then(|| beside(Path::new(raw), *is_folder))
        })?;
        let mut table = Table::new();
        table.insert(COMMAND.to_owned(), Value::String(names.join(" ")));
        for arg in sub.get_arguments().filter(|arg| !NOT_KEPT.contains(&arg.get_id().as_str())) {
            if gives_way(sub, leaf, arg) {
                continue;
            }
            if let Some(value) = value_of(arg, leaf) {
                table.insert(key_of(arg), value);
            }
        }
        let line = |(key, value): (&String, &Value)| format!("{key} = {value}\n");
        let (first, rest): (Vec<_>, Vec<_>) = table.iter().partition(|(key, _)| *key == COMMAND);
        let lines: String = first.into_iter().chain(rest).map(line).collect();
        let text = format!(
            "{MARK} {}; `ganomede {} --config FILE` repeats it.\n{lines}",
            env!("CARGO_PKG_VERSION"),
            names.join(" ")
        );
        let given = leaf.try_get_one::<PathBuf>("config").ok().flatten().cloned();
        Some(Self { path, text, given })
    }

    /// Writes them; a file of somebody else's stays as it is.
    ///
    /// # Errors
    /// For a file that cannot be written.
    pub(crate) fn write(&self) -> Result<(), CliError> {
        // What a run reads is never replaced.
        let place = |path: &Path| path.canonicalize().ok();
        if self
            .given
            .as_deref()
            .is_some_and(|given| place(given).is_some_and(|p| Some(p) == place(&self.path)))
        {
            return Ok(());
        }
        let there = files::read_limited(&self.path, MAX_BYTES);
        match there {
            Ok(bytes) if !bytes.starts_with(MARK.as_bytes()) => {
                note(&format!("{} is not ours: the settings of this run are not kept", shown(&self.path)));
                Ok(())
            }
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                note(&format!("{}: {e}: the settings of this run are not kept", shown(&self.path)));
                Ok(())
            }
            Ok(_) | Err(_) => Ok(write_atomic(&self.path, self.text.as_bytes())?),
        }
    }
}

/// Whether an argument has its default and another, which excludes it, was given: a run with both is refused.
fn gives_way(command: &Command, leaf: &ArgMatches, arg: &Arg) -> bool {
    let source = |arg: &Arg| leaf.value_source(arg.get_id().as_str());
    let excludes = |a: &Arg, b: &Arg| {
        command.get_arg_conflicts_with(a).iter().any(|excluded| excluded.get_id() == b.get_id())
    };
    let is_given = |arg: &Arg| source(arg).is_some_and(|source| source != ValueSource::DefaultValue);
    source(arg) == Some(ValueSource::DefaultValue)
        && command
            .get_arguments()
            .any(|other| is_given(other) && (excludes(other, arg) || excludes(arg, other)))
}

/// The place of the settings beside an output.
fn beside(output: &Path, is_folder: bool) -> PathBuf {
    if is_folder || output.is_dir() { output.join("settings.toml") } else { output.with_extension("toml") }
}

/// The names of the command that was typed, and its arguments.
fn leaf(mut matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let mut names = vec![];
    while let Some((name, below)) = matches.subcommand() {
        names.push(name.to_owned());
        matches = below;
    }
    (names, matches)
}

fn find<'a>(command: &'a Command, names: &[String]) -> Option<&'a Command> {
    names.iter().try_fold(command, |command, name| command.find_subcommand(name))
}

/// Where the names of the command end among what was typed.
fn after_names(typed: &[OsString], names: &[String]) -> usize {
    let mut at = 1;
    for name in names {
        let found = typed[at.min(typed.len())..].iter().position(|word| word == OsStr::new(name));
        at += found.map_or(0, |found| found + 1);
    }
    at.min(typed.len())
}

/// The name of an argument in a file.
fn key_of(arg: &Arg) -> String {
    arg.get_long().map_or_else(|| arg.get_id().as_str().to_owned(), str::to_owned)
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn value_of(arg: &Arg, leaf: &ArgMatches) -> Option<Value> {
    let id = arg.get_id().as_str();
    if is_switch(arg) {
        return leaf.get_flag(id).then_some(Value::Boolean(true));
    }
    let raw = leaf.try_get_raw(id).ok().flatten()?;
    let mut values: Vec<Value> = raw.map(|text| scalar(&text.to_string_lossy())).collect();
    match arg.get_action() {
        ArgAction::Append => Some(Value::Array(values)),
        _ => values.pop(),
    }
}

/// A number where the text is one in every respect, else the text.
fn scalar(text: &str) -> Value {
    let integer = text.parse().ok().map(Value::Integer);
    let float = || text.parse().ok().filter(|v: &f64| v.is_finite()).map(Value::Float);
    integer.or_else(float).filter(|v| plain(v) == text).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A scalar as it would be typed.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::Array(_) | Value::Table(_) => None,
        scalar => Some(plain(scalar)),
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|text| vec![text]),
    }
}

/// An argument as it is typed.
fn flag(arg: &Arg, key: &str, value: &Value) -> Option<Vec<String>> {
    match (is_switch(arg), value) {
        (true, Value::Boolean(true)) => Some(vec![format!("--{key}")]),
        (true, Value::Boolean(false)) => Some(vec![]),
        (true, _) => None,
        (false, Value::Boolean(_)) => None,
        (false, value) => Some(texts(value)?.into_iter().map(|text| format!("--{key}={text}")).collect()),
    }
}

fn wrong(key: &str) -> String {
    format!("'{key}' is not the kind of value that --{key} takes")
}

/// What to say of a key that the command does not have, or not in a file.
fn unknown(key: &str, known: &[&Arg], names: &[String]) -> String {
    if known.iter().any(|arg| key_of(arg) == key) {
        return format!("'{key}' is not taken from a file; type --{key} where it is wanted");
    }
    let mut near: Vec<(f64, String)> = known
        .iter()
        .filter(|arg| !NOT_KEPT.contains(&arg.get_id().as_str()))
        .map(|arg| (strsim::jaro_winkler(key, &key_of(arg)), key_of(arg)))
        .filter(|(alike, _)| *alike > 0.75)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<String> = near.into_iter().take(3).map(|(_, name)| format!("'{name}'")).collect();
    let hint = match near.is_empty() {
        true => format!("`ganomede {} --help` lists what it has", names.join(" ")),
        false => format!("near it are {}", near.join(", ")),
    };
    format!("`ganomede {}` has no '{key}'; {hint}", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(file: &str, typed: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, file).unwrap();
        let typed = typed.replace("FILE", path.to_str().unwrap());
        let typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
        let all = arguments(&crate::command(), typed).map_err(|e| e.message)?;
        Ok(all
            .into_iter()
            .map(|word| word.to_str().unwrap().to_owned())
            .filter(|w| !w.ends_with("run.toml"))
            .collect())
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = "command = \"train\"\nsystem = \"ae\"\nsize = 32\nlr = 1e-3\nresume = true\nhalf = false\n\
                    normal-class = [\"a\", \"-b\"]\nseed = 7\n";
        let all = run(file, "ganomede train --config FILE --size 64 --data x --out y").unwrap();
        assert_eq!(all[..3], ["ganomede", "train", "--lr=0.001"]);
        for word in ["--resume", "--seed=7", "--normal-class=a", "--normal-class=-b", "ae", "64"] {
            assert!(all.iter().any(|w| w == word), "{word} in {all:?}");
        }
        assert!(!all.iter().any(|w| w.contains("32") || w.contains("half")), "{all:?}");
        // A position that is typed stands for all of them.
        let all = run(file, "ganomede train pca --config FILE --data x --out y").unwrap();
        assert!(all.contains(&"pca".to_owned()) && !all.contains(&"ae".to_owned()), "{all:?}");
        // Everywhere else nothing changes.
        assert_eq!(run(file, "ganomede devices").unwrap(), ["ganomede", "devices"]);
    }

    #[test]
    fn keys_that_are_not_known_are_refused_with_the_near_ones() {
        let refused = |file: &str, words: &[&str]| {
            let message = run(file, "ganomede train --config FILE").unwrap_err();
            assert!(words.iter().all(|w| message.contains(w)), "{message}");
        };
        refused("epoch = 3", &["'epoch'", "'epochs'", "ganomede train"]);
        refused("zzz = 3", &["'zzz'", "--help"]);
        refused("command = \"eval\"", &["ganomede eval", "ganomede train"]);
        refused("size = [[1]]", &["size"]);
        refused("size = true", &["size"]);
        refused("resume = 3", &["resume"]);
        refused("size = ", &["run.toml"]);
        refused("config = \"x\"", &["'config'", "not taken from a file"]);
        refused("json = true", &["'json'", "not taken from a file", "--json"]);
        let message = run("", "ganomede train --config FILE.not").unwrap_err();
        assert!(message.contains("run.toml.not"), "{message}");
    }

    #[test]
    fn what_is_kept_repeats_the_run() {
        let command = crate::command();
        let typed = "ganomede train ae --data builtin:retina --size 32 --lr 1e-3 --out /tmp/x.safetensors -O loss=ssim \
                     --normal-class a,b --resume --seed 18446744073709551615";
        let matches =
            command.clone().try_get_matches_from(typed.split(' ').filter(|w| !w.is_empty())).unwrap();
        let settings = Settings::of(&command, &matches).unwrap();
        assert_eq!(settings.path, Path::new("/tmp/x.toml"));
        let again = run(&settings.text, "ganomede train --config FILE").unwrap();
        let again = command.clone().try_get_matches_from(again.iter().filter(|w| *w != "--config")).unwrap();
        let repeated = Settings::of(&command, &again).unwrap();
        assert_eq!(settings.text, repeated.text);
        for line in
            ["system = \"ae\"", "option = [\"loss=ssim\"]", "resume = true", "width = 64", "lr = \"1e-3\""]
        {
            assert!(settings.text.contains(line), "{line} in {}", settings.text);
        }
        let synth = ["ganomede", "data", "synth", "casting", "--out", "parts"];
        let none = command.clone().try_get_matches_from(synth).unwrap();
        assert!(Settings::of(&command, &none).is_none());
    }
}
