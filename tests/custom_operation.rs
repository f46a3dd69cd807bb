//! An operation of one kernel in a file of its own: recorded, differentiated twice, compiled, run, and
//! refused where it does not fit.

use std::sync::Arc;

use ganomede::device::Device;
use ganomede::program::compile;
use ganomede::tape::{Operation, States, Tape, Tensor};
use ganomede_kernels::Kernel;
use ganomede_kernels::sparse::{Matrix, Sparse};

/// A vector from its end to its beginning.
#[derive(Debug)]
struct Reverse;

impl Operation for Reverse {
    fn name(&self) -> &'static str {
        "reverse"
    }

    fn kernel(&self, operands: &[&[usize]]) -> Result<(Vec<usize>, Kernel), String> {
        let &[&[n]] = operands else { return Err(format!("takes one vector, not {operands:?}")) };
        let matrix = Arc::new(Matrix::new(n, (0..n).map(|i| vec![(n - 1 - i, 1.0)])));
        Ok((vec![n], Kernel::Sparse(Sparse { outer: 1, inner: 1, matrix })))
    }

    fn vjp<'t>(
        &self,
        tape: &'t Tape,
        _operands: &[Tensor<'t>],
        _result: Tensor<'t>,
        cotangent: Tensor<'t>,
    ) -> Vec<Option<Tensor<'t>>> {
        vec![Some(tape.custom(Reverse, &[cotangent]))]
    }
}

/// One whose kernel does not fit its shape.
#[derive(Debug)]
struct Liar;

impl Operation for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn kernel(&self, operands: &[&[usize]]) -> Result<(Vec<usize>, Kernel), String> {
        let (_, kernel) = Reverse.kernel(operands)?;
        Ok((vec![2], kernel))
    }

    fn vjp<'t>(
        &self,
        _tape: &'t Tape,
        _operands: &[Tensor<'t>],
        _result: Tensor<'t>,
        _cotangent: Tensor<'t>,
    ) -> Vec<Option<Tensor<'t>>> {
        vec![None]
    }
}

#[test]
fn values_and_both_derivatives_are_those_of_the_definition() {
    let tape = Tape::new();
    let (x, w) = (tape.input("x", &[3]), tape.input("w", &[3]));
    // L = Σ w_i · x_{2−i}³, so ∂L/∂x_j = 3 · w_{2−j} · x_j² and ∂/∂x_j of Σ ∂L/∂x = 6 · w_{2−j} · x_j.
    let loss = (w * tape.custom(Reverse, &[x * x * x])).sum_all();
    let dx = tape.grad(loss, &[x])[0];
    tape.output("loss", loss);
    tape.output("dx", dx);
    tape.output("ddx", tape.grad(dx.sum_all(), &[x])[0]);
    let program = compile(&tape.finish().unwrap()).unwrap();
    let device = Device::Cpu;
    let mut executable = device.load(&program, &device.store(&States::new(), 0).unwrap()).unwrap();
    executable.write("x", &[1.0, 2.0, 3.0]).unwrap();
    executable.write("w", &[10.0, 100.0, 1000.0]).unwrap();
    executable.run(1).unwrap();
    assert_eq!(executable.read("loss").unwrap(), [10.0 * 27.0 + 100.0 * 8.0 + 1000.0]);
    assert_eq!(executable.read("dx").unwrap(), [3000.0, 1200.0, 270.0]);
    assert_eq!(executable.read("ddx").unwrap(), [6000.0, 1200.0, 180.0]);
}

#[test]
fn equal_operations_become_one_launch() {
    let tape = Tape::new();
    let x = tape.input("x", &[4]);
    tape.output("y", tape.custom(Reverse, &[x]) * tape.custom(Reverse, &[x]));
    let program = compile(&tape.finish().unwrap()).unwrap();
    let launches = program.launches.iter().filter(|launch| matches!(launch.kernel, Kernel::Sparse(_)));
    assert_eq!(launches.count(), 1);
}

#[test]
fn what_does_not_fit_is_said() {
    let said = |record: &dyn Fn(&Tape)| {
        let tape = Tape::new();
        record(&tape);
        tape.finish().unwrap_err().to_string()
    };
    let matrix = said(&|tape| _ = tape.custom(Reverse, &[tape.input("x", &[2, 2])]));
    assert!(matrix.contains("reverse") && matrix.contains("takes one vector, not [[2, 2]]"), "{matrix}");
    let none = said(&|tape| _ = tape.custom(Reverse, &[]));
    assert!(none.contains("takes one vector, not []"), "{none}");
    let liar = said(&|tape| _ = tape.custom(Liar, &[tape.input("x", &[3])]));
    assert!(liar.contains("sparse does not read [[3]] and write [2]"), "{liar}");
}
