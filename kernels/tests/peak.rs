//! The loops that measure peaks: shaders validate and bind what plans say, the CPU's loops do what they
//! count.

use crate::plans::assert_consistent;
use ganomede_kernels::peak::{Peak, bf16_on_cpu, copy_on_cpu, fma_on_cpu};
use ganomede_kernels::{GpuTraits, KernelError};

#[test]
fn shaders_validate_and_cost_what_they_do() {
    let (fma, copy) = (Peak::Fma { threads: 128, rounds: 10 }, Peak::Copy { len: 4096 });
    for peak in [fma, copy] {
        let plan = peak.gpu(&GpuTraits::default()).unwrap();
        assert_consistent(&plan.dispatches[0]);
        assert_eq!(plan.dispatches[0].bindings.len(), peak.input_lens().len() + 1);
    }
    assert_eq!(fma.gpu(&GpuTraits::default()).unwrap().dispatches[0].workgroups, [2, 1, 1]);
    assert_eq!(copy.gpu(&GpuTraits::default()).unwrap().dispatches[0].workgroups, [16, 1, 1]);
    // Eight lines of four lanes a round.
    let source = fma.gpu(&GpuTraits::default()).unwrap().dispatches[0].source.to_string();
    assert_eq!(source.matches("= fma(").count(), 8);
    assert_eq!(fma.cost().flops, 2 * 8 * 4 * 10 * 128);
    assert_eq!((copy.cost().bytes_read, copy.cost().bytes_written), (4 * 4096, 4 * 4096));
    let small = GpuTraits { max_binding_bytes: 1024, ..GpuTraits::default() };
    assert!(matches!(copy.gpu(&small), Err(KernelError::Limit { .. })));
}

#[test]
fn loops_on_the_cpu_do_what_they_count() {
    let flops = fma_on_cpu(100);
    assert!(flops > 0 && fma_on_cpu(300) == 3 * flops);
    let threads = rayon::current_num_threads() as u64;
    assert_eq!(bf16_on_cpu(3), threads * 3 * 2 * 32 * 256 * 32);
    let from: Vec<f32> = (0..200_001).map(|i| i as f32).collect();
    let mut to = vec![0.0; from.len()];
    copy_on_cpu(&from, &mut to);
    assert_eq!(from, to);
}
