//! No output replaces what the run reads, or anything that is no regular file; names are printed as names.
#![cfg(unix)]

use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::binary::{RETINA, TINY, files, folder, ganomede, text, train, write_grays};

/// A tiny model.
fn model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let path = folder("model").join("tiny.safetensors");
        train(RETINA, &path, &["--steps", "2"]).well();
        path
    })
}

/// The bytes of every file of a folder.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    files(folder).into_iter().map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn every_option_that_names_a_file_spares_what_is_read() {
    let at = folder("spared");
    let grays = at.join("grays");
    write_grays(&grays, 6);
    let own = at.join("own.safetensors");
    std::fs::copy(model(), &own).unwrap();
    std::fs::write(at.join("rows.csv"), "time,a\n1,2\n3,4\n").unwrap();
    std::fs::hard_link(grays.join("01.png"), at.join("hard.png")).unwrap();
    symlink(grays.join("02.png"), at.join("soft.png")).unwrap();
    symlink(&own, at.join("model-link")).unwrap();
    let before = contents(&at);
    let (at_text, grays) = (text(&at), text(&grays));
    let own = text(&own);
    let tiny = TINY.join(" ");
    for line in [
        format!("data manifest {grays} --out {grays}/03.png"),
        format!("data manifest {grays} --out {at_text}/hard.png"),
        format!("data manifest {grays} --out {at_text}/soft.png"),
        format!("data augment {grays} --augment flip --preview {grays}/04.png"),
        format!("data augment {grays} --augment flip --preview {grays}/new.png"),
        format!("train ae --data {grays} {tiny} --steps 1 --out {grays}/05.png"),
        format!("train ae --data {grays} {tiny} --steps 1 --out {at_text}/hard.png"),
        format!("train ae --data {grays} {tiny} --steps 1 --out {at_text}/m.safetensors --samples {grays}"),
        format!(
            "train ae --signal --train-part 0.5 --data {at_text}/rows.csv {tiny} --steps 1 --out {at_text}/rows.csv"
        ),
        format!("search {own} {grays}/00.png --film {grays}/00.png"),
        format!("search {own} {grays}/00.png --film {own}"),
        format!("search {own} {grays}/00.png --film {at_text}/model-link"),
        format!("score {own} {grays} --maps {grays}"),
        format!("score {own} {grays}/00.png --maps {grays}"),
        format!("eval {own} --data {grays} --report {grays}"),
        format!("compare --systems ae --data {grays} --steps 1 --report {grays}"),
        format!(
            "compare --systems ae --data {grays} --steps 1 --report {at_text}/c --markdown {grays}/00.png"
        ),
    ] {
        let paragraph = ganomede(line.split(' ')).refused(2, &["choose another"]);
        assert!(!paragraph.contains("training "), "refused before any work: {paragraph}");
        let after = contents(&at);
        assert_eq!(before, after, "{line}");
    }
}

#[test]
fn every_option_that_names_a_file_spares_devices_pipes_and_folders() {
    let at = folder("special");
    let grays = folder("special-data");
    write_grays(&grays, 6);
    let socket = at.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::create_dir(at.join("folder")).unwrap();
    symlink("socket", at.join("link")).unwrap();
    let (own, grays, tiny) = (text(model()), text(&grays), TINY.join(" "));
    for line in [
        format!("data manifest {grays} --out"),
        format!("data augment {grays} --augment flip --preview"),
        format!("train ae --data {grays} {tiny} --steps 1 --out"),
        format!("search {own} {grays}/00.png --film"),
        format!("compare --systems ae --data {grays} --steps 1 --report {grays}-c --markdown"),
        "explain ae --svg".to_owned(),
        "explain anogan --size 16 --width 4 --batch 2 --dot".to_owned(),
        "bench step --size 16 --width 4 --batch 2 --sweep batch=1,2 --csv".to_owned(),
        "bench step --size 16 --width 4 --batch 2 --sweep batch=1,2 --plot".to_owned(),
        "profile anogan --size 16 --width 4 --batch 2 --trace".to_owned(),
    ] {
        for (name, said) in
            [("socket", "a device, a pipe or a socket"), ("link", "a device"), ("folder", "a folder")]
        {
            ganomede(line.split(' ').chain([text(&at.join(name))])).refused(2, &[said, "name a file"]);
        }
    }
    assert!(std::fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(files(&at), ["link", "socket"]);
}

#[test]
fn a_linked_output_is_followed_and_a_private_one_stays_private() {
    let at = folder("followed");
    std::fs::create_dir(at.join("far")).unwrap();
    let (link, private) = (at.join("m.safetensors"), at.join("p.safetensors"));
    symlink("far/m.safetensors", &link).unwrap();
    train(RETINA, &link, &["--steps", "1"]).well();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    std::fs::write(&private, "").unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    train(RETINA, &private, &["--steps", "1"]).well();
    assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let expected = [
        "far/m.safetensors",
        "m.checkpoint.safetensors",
        "m.safetensors",
        "m.toml",
        "p.checkpoint.safetensors",
        "p.safetensors",
        "p.toml",
    ];
    assert_eq!(files(&at), expected);
}

#[test]
fn names_are_printed_as_names() {
    let at = folder("names");
    let grays = at.join("d\u{1b}[2J\nerror: all is lost");
    write_grays(&grays, 3);
    let image = "\u{1b}[31mred\n0.1\t0.9\tnormal\u{9b}K\u{202e}.png";
    std::fs::rename(grays.join("00.png"), grays.join(image)).unwrap();
    std::fs::write(grays.join("bad\u{7}\n.png"), "no image").unwrap();
    let data = text(&grays);
    let odd = grays.join(image);
    let film = at.join("f\u{1b}c.png");
    let missing = grays.join("miss\u{1b}ing\n");
    let lines: [&[&str]; 6] = [
        &["score", text(model()), data],
        &["score", text(model()), data, "--strict"],
        &["data", "info", data],
        &["data", "manifest", data],
        &["search", text(model()), text(&odd), "--film", text(&film)],
        &["data", "info", text(&missing)],
    ];
    for line in lines {
        let ended = ganomede(line);
        for (place, shown) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
            let acts = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
            assert!(!shown.contains(acts), "{line:?} on {place}: {shown:?}");
            assert!(!shown.lines().any(|l| l.starts_with("error: all is lost")), "{place}: {shown:?}");
        }
    }
    // A row an image, whatever it is called; and JSON says exactly what it is called.
    let ended = ganomede(["score", text(model()), data]);
    assert_eq!(ended.well().stdout.lines().count(), 1 + 3, "{:?}", ended.stdout);
    assert!(
        ended.stdout.contains("\\u{1b}[31mred\\n0.1\\t0.9\\tnormal\\u{9b}K\\u{202e}.png"),
        "{}",
        ended.stdout
    );
    let document = ganomede(["score", text(model()), data, "--json"]).json();
    assert!(document["images"].as_array().unwrap().iter().any(|i| i["path"] == text(&odd)));
}
