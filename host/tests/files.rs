//! Files and folders are whole or absent, keep what they were, and what a dead process left is found.
#![cfg(unix)]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use ganomede_host::{Hold, HoldError, NewFolder, target, try_folder, write};
use tempfile::tempdir;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_file_is_replaced_whole_and_nothing_else_is_there() {
    let at = tempdir().unwrap();
    let file = at.path().join("file");
    for bytes in [&b"old"[..], b"", b"newer and longer"] {
        write(&file, bytes).unwrap();
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    assert_eq!(names(at.path()), ["file"]);
    // As readable as any file that this process makes.
    let usual = at.path().join("usual");
    File::create(&usual).unwrap();
    assert_eq!(mode(&file), mode(&usual));
}

#[test]
fn links_are_followed_and_permissions_stay() {
    let at = tempdir().unwrap();
    let (far, link, second) = (at.path().join("far"), at.path().join("link"), at.path().join("second"));
    fs::create_dir(&far).unwrap();
    symlink("far/file", &link).unwrap();
    symlink("link", &second).unwrap();
    for (bytes, mode_then) in [(&b"through a link to nowhere"[..], None), (b"again", Some(0o600))] {
        if let Some(mode) = mode_then {
            fs::set_permissions(far.join("file"), fs::Permissions::from_mode(mode)).unwrap();
        }
        write(&second, bytes).unwrap();
        assert_eq!(fs::read(far.join("file")).unwrap(), bytes);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        if let Some(mode) = mode_then {
            assert_eq!(mode_of(&far, "file"), mode);
        }
    }
    // More than the umask gives stays as well.
    fs::set_permissions(far.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
    write(&link, b"third").unwrap();
    assert_eq!(mode_of(&far, "file"), 0o666);
    assert_eq!(names(&far), ["file"]);
}

fn mode_of(folder: &Path, name: &str) -> u32 {
    mode(&folder.join(name))
}

#[test]
fn what_is_no_regular_file_is_refused_and_stays() {
    let at = tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    fs::create_dir(path("folder")).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    symlink("socket", path("to-socket")).unwrap();
    symlink("b", path("a")).unwrap();
    symlink("a", path("b")).unwrap();
    for (name, said) in [
        ("folder", "is a folder"),
        ("socket", "is a device, a pipe or a socket"),
        ("to-socket", "is a device, a pipe or a socket"),
        ("a", "leads back to itself"),
    ] {
        let before = fs::symlink_metadata(path(name)).unwrap();
        let error = write(&path(name), b"x").unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
        let after = fs::symlink_metadata(path(name)).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
    }
    assert!(target(Path::new("/dev/null")).is_err());
    assert!(write(&path("missing/file"), b"x").is_err());
    assert_eq!(names(at.path()), ["a", "b", "folder", "socket", "to-socket"]);
}

/// A name that this program gives to what it makes for a while.
const LEFT: &str = ".ganomede-0123456789abcdef.tmp";

#[test]
fn what_a_dead_process_left_goes_with_the_next_write_and_what_lives_stays() {
    let at = tempdir().unwrap();
    let path = |name: &str| at.path().join(name);
    for dead in [LEFT, ".ganomede-fedcba9876543210.lock"] {
        fs::write(path(dead), "half of a fi").unwrap();
    }
    // A folder of a dead process, with its lock, and one that was killed before it had one.
    fs::create_dir_all(path(".ganomede-aaaaaaaaaaaaaaaa.tmp/new/train")).unwrap();
    fs::write(path(".ganomede-aaaaaaaaaaaaaaaa.tmp/lock"), "").unwrap();
    fs::create_dir(path(".ganomede-bbbbbbbbbbbbbbbb.tmp")).unwrap();
    // Those that others hold: a lock belongs to an open file, so this process can play them all.
    let living = [".ganomede-cccccccccccccccc.tmp", ".ganomede-dddddddddddddddd.lock"];
    let held: Vec<File> = living.iter().map(|name| File::create(path(name)).unwrap()).collect();
    held.iter().for_each(|file| file.lock().unwrap());
    fs::create_dir(path(".ganomede-eeeeeeeeeeeeeeee.tmp")).unwrap();
    let inner = File::create(path(".ganomede-eeeeeeeeeeeeeeee.tmp/lock")).unwrap();
    inner.lock().unwrap();
    // And what only looks like ours.
    let others = [".ganomede-notes.tmp", ".ganomede-0123456789abcdef", "ganomede-0123456789abcdef.tmp"];
    others.iter().for_each(|name| fs::write(path(name), "keep").unwrap());
    fs::create_dir(path(".ganomede-backup")).unwrap();

    write(&path("file"), b"x").unwrap();
    let mut expected: Vec<&str> =
        [&living[..], &others, &[".ganomede-eeeeeeeeeeeeeeee.tmp", ".ganomede-backup", "file"]].concat();
    expected.sort_unstable();
    assert_eq!(names(at.path()), expected);
}

#[test]
fn a_folder_appears_whole_and_a_dropped_one_not_at_all() {
    let at = tempdir().unwrap();
    let out = at.path().join("deep/out");
    let folder = NewFolder::create(&out).unwrap();
    folder.subfolder("train/good").unwrap();
    folder.write("train/good/a", b"1").unwrap();
    assert!(!out.exists());
    // Another run that writes there meanwhile takes it for what it is: alive.
    write(&at.path().join("deep/other"), b"x").unwrap();
    folder.finish().unwrap();
    assert_eq!(fs::read(out.join("train/good/a")).unwrap(), b"1");
    let usual = at.path().join("usual");
    fs::create_dir(&usual).unwrap();
    assert_eq!(mode(&out), mode(&usual));

    drop(NewFolder::create(&at.path().join("deep/dropped")).unwrap());
    assert_eq!(names(&at.path().join("deep")), ["other", "out"]);
    let refused = NewFolder::create(&out).unwrap_err();
    assert!(refused.to_string().contains("not an empty folder"), "{refused}");
    // An empty folder may be filled, and one that a link names.
    fs::create_dir(at.path().join("empty")).unwrap();
    symlink("empty", at.path().join("link")).unwrap();
    let folder = NewFolder::create(&at.path().join("link")).unwrap();
    folder.write("a", b"2").unwrap();
    folder.finish().unwrap();
    assert_eq!(fs::read(at.path().join("empty/a")).unwrap(), b"2");
    symlink("nowhere", at.path().join("dangling")).unwrap();
    assert!(NewFolder::create(&at.path().join("dangling")).is_err());
}

#[test]
fn an_output_has_one_holder_and_a_dead_one_is_none() {
    let at = tempdir().unwrap();
    let out = at.path().join("m.safetensors");
    symlink("m.safetensors", at.path().join("link")).unwrap();
    let first = Hold::new(&out).unwrap();
    for same in [out.clone(), at.path().join("link")] {
        let refused = Hold::new(&same).unwrap_err();
        assert!(matches!(&refused, HoldError::Held { path, .. } if *path == same));
        let said = refused.to_string();
        assert!(said.contains(&format!("(process {})", std::process::id())), "{said}");
        assert!(!refused.is_machine_fault());
    }
    let other = Hold::new(&at.path().join("n.safetensors")).unwrap();
    drop(first);
    let again = Hold::new(&out).unwrap();
    drop((again, other));
    assert_eq!(names(at.path()), ["link"]);
    // A lock file whose holder was killed holds nothing.
    let held = Hold::new(&out).unwrap();
    let left = names(at.path()).into_iter().find(|name| name.ends_with(".lock")).unwrap();
    drop(held);
    fs::write(at.path().join(&left), "4194304").unwrap();
    drop(Hold::new(&out).unwrap());
    assert_eq!(names(at.path()), ["link"]);
    // As long as a name may be.
    drop(Hold::new(&at.path().join("x".repeat(255))).unwrap());
    assert!(Hold::new(&at.path().join("missing/m.safetensors")).unwrap_err().is_machine_fault());
}

#[test]
fn trying_a_folder_makes_it_and_leaves_nothing() {
    let at = tempdir().unwrap();
    try_folder(&at.path().join("a/b")).unwrap();
    assert_eq!(names(&at.path().join("a/b")), [""; 0]);
    fs::write(at.path().join("file"), "").unwrap();
    assert!(try_folder(&at.path().join("file")).is_err());
}
