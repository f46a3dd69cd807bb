//! A device from outside the library: three traits are enough, what is checked before they are asked is
//! checked for it, and what it only promises is waited for.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use ganomede::device::{
    Backend, Clock, Device, DeviceError, Executable, GpuOptions, Loaded, Pending, Selector, Store, Stored,
};
use ganomede::program::{Launch, Program, Role, StateId, compile};
use ganomede::tape::{Initial, States, Tape};

/// Nothing is computed: outputs are zeros, states keep what is written. Every answer comes from a thread,
/// later.
#[derive(Default)]
struct Late {
    /// Replays asked for.
    replays: Arc<AtomicUsize>,
}

struct LateStore(Mutex<Vec<Vec<f32>>>);

struct LateProgram {
    program: Arc<Program>,
    replays: Arc<AtomicUsize>,
}

/// `value`, some time later.
fn later<T: Clone + Send + 'static>(value: T) -> Pending<'static, T> {
    let answer = Arc::new(Mutex::new((None::<T>, None::<Waker>)));
    let mut begun = false;
    Box::pin(std::future::poll_fn(move |context| {
        if let Some(value) = answer.lock().unwrap().0.take() {
            return Poll::Ready(Ok(value));
        }
        answer.lock().unwrap().1 = Some(context.waker().clone());
        if !std::mem::replace(&mut begun, true) {
            let (answer, value) = (Arc::clone(&answer), value.clone());
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                let mut answer = answer.lock().unwrap();
                answer.0 = Some(value);
                answer.1.take().unwrap().wake();
            });
        }
        Poll::Pending
    }))
}

impl Backend for Late {
    fn describe(&self) -> String {
        "late".to_owned()
    }

    fn store(&self, lens: &[usize]) -> Result<Arc<dyn Stored>, DeviceError> {
        Ok(Arc::new(LateStore(Mutex::new(lens.iter().map(|&len| vec![0.0; len]).collect()))))
    }

    fn store_bytes(&self, lens: &[usize]) -> u64 {
        lens.iter().map(|&len| 4 * len as u64).sum()
    }

    fn program_bytes(&self, _program: &Program) -> Result<u64, DeviceError> {
        Ok(0)
    }

    fn load<'v>(
        &self,
        program: &Arc<Program>,
        store: &Store,
        _variant: &dyn Fn(usize, &Launch) -> Option<&'v str>,
    ) -> Result<Box<dyn Loaded>, DeviceError> {
        store.own::<LateStore>(program)?;
        Ok(Box::new(LateProgram { program: Arc::clone(program), replays: Arc::clone(&self.replays) }))
    }
}

impl Stored for LateStore {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn len(&self, id: StateId) -> usize {
        self.0.lock().unwrap()[id.0].len()
    }

    fn bytes(&self) -> u64 {
        self.0.lock().unwrap().iter().map(|state| 4 * state.len() as u64).sum()
    }

    fn read(&self, id: StateId) -> Pending<'_, Vec<f32>> {
        later(self.0.lock().unwrap()[id.0].clone())
    }

    fn write(&self, id: StateId, values: &[f32]) -> Result<(), DeviceError> {
        self.0.lock().unwrap()[id.0] = values.to_vec();
        Ok(())
    }
}

impl Loaded for LateProgram {
    fn bytes(&self) -> u64 {
        0
    }

    fn write(&mut self, _buffer: usize, _values: &[f32]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&self, buffer: usize) -> Pending<'_, Vec<f32>> {
        later(vec![0.0; self.program.buffers[buffer].len])
    }

    fn run(&mut self, times: usize) -> Result<(), DeviceError> {
        self.replays.fetch_add(times, Ordering::Relaxed);
        Ok(())
    }

    fn finished(&self) -> Pending<'_, ()> {
        later(())
    }
}

/// `y = x + w`, and `w` is one state of three.
fn recorded() -> (States, Program) {
    let mut states = States::new();
    let w = states.add("w", &[3], Initial::Constant(2.0));
    let tape = Tape::new();
    let y = tape.input("x", &[3]) + tape.state(&w);
    tape.output("y", y);
    (states, compile(&tape.finish().unwrap()).unwrap())
}

fn loaded(device: &Device) -> (Store, Executable) {
    let (states, program) = recorded();
    let store = device.store(&states, 1).unwrap();
    let executable = device.load(&program, &store).unwrap();
    (store, executable)
}

#[test]
fn answers_that_come_later_are_waited_for() {
    let late = Late::default();
    let replays = Arc::clone(&late.replays);
    let device = Device::Other(Arc::new(late));
    assert_eq!(device.describe(), "late");
    let (store, mut executable) = loaded(&device);
    assert_eq!(store.read(StateId(0)).unwrap(), [2.0; 3], "start values");
    store.write(StateId(0), &[1.0, 2.0, 3.0]).unwrap();
    assert_eq!(store.clone().read(StateId(0)).unwrap(), [1.0, 2.0, 3.0]);
    executable.write("x", &[1.0; 3]).unwrap();
    executable.run(5).unwrap();
    assert_eq!(replays.load(Ordering::Relaxed), 5);
    assert_eq!(executable.read("y").unwrap(), [0.0; 3]);
    assert_eq!(executable.scalar("y").unwrap(), 0.0);
}

/// Whoever has a loop of events asks again when told to; nothing blocks.
#[test]
fn answers_that_come_later_can_be_asked_for_without_blocking() {
    let (store, mut executable) = loaded(&Device::Other(Arc::new(Late::default())));
    let mut waits = 0;
    {
        let mut work = pin!(async {
            executable.run_async(1).await.unwrap();
            (store.read_async(StateId(0)).await.unwrap(), executable.read_async("y").await.unwrap())
        });
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match work.as_mut().poll(&mut context) {
                Poll::Ready(both) => break assert_eq!(both, (vec![2.0; 3], vec![0.0; 3])),
                Poll::Pending => waits += 1,
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(waits >= 3, "three answers come later, {waits} waits");
}

#[test]
fn devices_that_answer_at_once_do_so_asynchronously_too() {
    let (_, mut executable) = loaded(&Device::Cpu);
    executable.write("x", &[1.0; 3]).unwrap();
    let mut work = pin!(async {
        executable.run_async(1).await.unwrap();
        executable.read_async("y").await.unwrap()
    });
    let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Ready(vec![3.0; 3]));
}

/// What is wrong with a request is found before a device is asked.
#[test]
fn requests_are_checked_for_every_device() {
    let device = Device::Other(Arc::new(Late::default()));
    let (states, program) = recorded();
    let (store, mut executable) = loaded(&device);
    let says = |error: DeviceError| error.to_string();
    assert_eq!(says(executable.write("x", &[0.0; 2]).unwrap_err()), "x: expected 3 values, got 2");
    assert_eq!(says(executable.write("z", &[0.0]).unwrap_err()), "'z' does not exist; known: x");
    assert_eq!(says(executable.read("x").unwrap_err()), "'x' does not exist; known: y");
    assert_eq!(says(store.write(StateId(0), &[0.0]).unwrap_err()), "state 0: expected 3 values, got 1");
    assert_eq!(says(store.read(StateId(1)).unwrap_err()), "'state 1' does not exist; known: 1 states");
    let refused = |store: &Store, program: &Program| says(device.load(program, store).err().unwrap());
    let elsewhere = Device::Cpu.store(&states, 1).unwrap();
    assert_eq!(refused(&elsewhere, &program), "load: a store of another device was given");
    let short = device.store_of(&[2]).unwrap();
    assert_eq!(refused(&short, &program), "state 0: expected 3 values, got 2");
    let mut broken = program.clone();
    broken.launches[0].inputs[0] = 99;
    assert!(refused(&store, &broken).contains("input buffer 99"), "{}", refused(&store, &broken));
    assert!(program.buffers.iter().any(|buffer| buffer.role == Role::State(StateId(0))));
}

#[test]
fn what_a_device_cannot_do_it_says() {
    let device = Device::Other(Arc::new(Late::default()));
    let (_, mut executable) = loaded(&device);
    let mut clock = device.clock().unwrap();
    assert_eq!(clock, Clock::Wall { reason: None });
    let error = executable.replay_timed(&mut clock).unwrap_err();
    assert_eq!(error.to_string(), "this device cannot time single launches");
    assert_eq!(device.peaks().unwrap_err().to_string(), "this device cannot measure its peaks");
    assert_eq!(executable.find_non_finite().unwrap(), None);
    assert_eq!((executable.variant(0), device.halves(), device.held_bytes()), ("native", false, None));
}

#[test]
fn devices_are_known_by_name() {
    let chosen = |text: &str| text.parse::<Selector>();
    assert_eq!(chosen("cpu"), Ok(Selector::Cpu));
    assert_eq!(chosen("gpu:3"), Ok(Selector::GpuIndex(3)));
    assert_eq!(
        chosen("tpu").unwrap_err(),
        "device 'tpu' is unknown; use auto, cpu, gpu or gpu:N (see `ganomede devices`)"
    );
    let missing = Device::open(Selector::Named("tpu"), GpuOptions::default()).err().unwrap();
    assert!(matches!(missing, DeviceError::NotBuilt { device: "tpu" }) && !missing.is_machine_fault());
    assert!(missing.to_string().contains("no device 'tpu'"), "{missing}");
}
