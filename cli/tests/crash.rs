//! Killed between any two system calls that change the file system, a training that is resumed ends with the
//! bits of one that was never stopped, and what it leaves is what that one leaves.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::binary::{RETINA, TINY, assert_same_tensors, command, files, folder, text};
use crate::traced::{End, run};
use ganomede::models::file::ModelFile;

/// Kill points, spread over all calls of a training.
const POINTS: usize = 200;

/// A training of several stages, whose parts are not due at every step, with a checkpoint after each.
fn training(out: &Path, more: &[&str]) -> std::process::Command {
    let mut command = command();
    command.args(["train", "f-anogan", "--data", RETINA, "--out", text(out)]).args(TINY);
    command.args(["--steps", "30", "--checkpoint-every", "1"]).args(more);
    // One thread a process, two processes: the calls of a training come in one order.
    command.env("RAYON_NUM_THREADS", "1");
    command
}

#[test]
fn a_training_survives_a_kill_at_any_call() {
    let at = folder("points");
    let whole = at.join("whole/m.safetensors");
    std::fs::create_dir(at.join("whole")).unwrap();
    let (ended, calls) = run(training(&whole, &[]), None);
    assert_eq!(ended, End::Exited(0));
    assert!(calls >= POINTS, "{calls} calls are too few for {POINTS} kill points");
    let names = files(&at.join("whole"));
    assert_eq!(names, ["m.checkpoint.safetensors", "m.safetensors", "m.toml"]);

    let (next, faults) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let work = || {
        loop {
            let point = next.fetch_add(1, Ordering::SeqCst);
            if point >= POINTS {
                return;
            }
            let call = 1 + point * calls / POINTS;
            let fault = |what: String| faults.lock().unwrap().push(format!("call {call} of {calls}: {what}"));
            let here = at.join(format!("call-{call}"));
            std::fs::create_dir(&here).unwrap();
            let out = here.join("m.safetensors");
            let (ended, _) = run(training(&out, &[]), Some(call));
            assert_eq!(ended, End::Killed, "call {call} of {calls}");
            let resumed = training(&out, &["--resume"]).output().unwrap();
            assert!(resumed.status.success(), "call {call}: {}", String::from_utf8_lossy(&resumed.stderr));
            assert_same_tensors(&whole, &out);
            let [a, b] = [&whole, &out].map(|path| ModelFile::load(path).unwrap().header);
            if files(&here) != names {
                fault(format!("after a resume there are {:?}", files(&here)));
            }
            if a.progress.losses != b.progress.losses {
                fault("the loss history differs".to_owned());
            }
            if a.calibration != b.calibration {
                fault("the calibration differs".to_owned());
            }
            std::fs::remove_dir_all(&here).unwrap();
        }
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults at {POINTS} kill points:\n{}", faults.len(), faults.join("\n"));
}

/// A data set that is killed while it is written does not appear, and what it leaves goes with the next run.
#[test]
fn a_data_set_survives_a_kill_at_any_call() {
    let at = folder("data-set");
    let synth = |out: &Path| {
        let mut command = command();
        command.args(["data", "synth", "--train", "3", "--test", "2", "--size", "16", "--out", text(out)]);
        command.env("RAYON_NUM_THREADS", "1");
        command
    };
    let (ended, calls) = run(synth(&at.join("whole/set")), None);
    assert_eq!(ended, End::Exited(0));
    let content = |folder: &Path| {
        let read = |name: String| (std::fs::read(folder.join(&name)).unwrap(), name);
        files(folder).into_iter().map(read).collect::<Vec<_>>()
    };
    let whole = content(&at.join("whole/set"));
    assert_eq!(whole.len(), 6, "five images and a mask");
    for call in 1..=calls {
        let here = at.join(format!("call-{call}"));
        std::fs::create_dir(&here).unwrap();
        let out = here.join("set");
        assert_eq!(run(synth(&out), Some(call)).0, End::Killed);
        let appeared = out.exists();
        assert!(!appeared || content(&out) == whole, "a part of a data set appeared at call {call}");
        if !appeared {
            assert!(synth(&out).output().unwrap().status.success());
        } else {
            let other = here.join("other");
            assert!(synth(&other).output().unwrap().status.success());
            std::fs::remove_dir_all(other).unwrap();
        }
        assert_eq!(content(&out), whole, "after a kill at call {call} of {calls} and another run");
        assert_eq!(std::fs::read_dir(&here).unwrap().count(), 1, "call {call} left something for ever");
        std::fs::remove_dir_all(&here).unwrap();
    }
}
