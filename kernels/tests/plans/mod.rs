//! Checks of GPU plans without a device.

#![allow(dead_code, reason = "each test file uses its part")]

use ganomede_kernels::{Access, Dispatch, GpuTraits, Kernel, Slot};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// A software adapter with WebGPU's default limits.
pub(crate) fn software() -> GpuTraits {
    GpuTraits { software: true, ..GpuTraits::default() }
}

/// Parses and validates WGSL text without any optional capability but subgroups and halves, which plans ask
/// traits for; `unpack2x16float` is none, WebGPU has it.
pub(crate) fn validate(name: &str, source: &str) -> (naga::Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    let info = Validator::new(
        ValidationFlags::all(),
        Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    )
    .validate(&module)
    .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    (module, info)
}

/// The emitted text validates, and its entry point uses only what the plan binds, as the plan binds it.
pub(crate) fn assert_consistent(dispatch: &Dispatch) {
    let (module, info) = validate(dispatch.shader, &dispatch.source);
    let entry = module.entry_points.iter().position(|e| e.name == dispatch.entry);
    let uses = info
        .get_entry_point(entry.unwrap_or_else(|| panic!("{} has no {}", dispatch.shader, dispatch.entry)));
    for (name, _) in &dispatch.constants {
        let known = module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
        assert!(known, "{} has no constant {name}", dispatch.shader);
    }
    assert!(dispatch.bindings.len() <= 8 && dispatch.params.len().is_multiple_of(4));
    for (handle, global) in module.global_variables.iter().filter(|(handle, _)| !uses[*handle].is_empty()) {
        let Some(binding) = &global.binding else { continue };
        match global.space {
            naga::AddressSpace::Uniform => {
                let mut layouter = naga::proc::Layouter::default();
                layouter.update(module.to_ctx()).unwrap();
                assert_eq!(
                    layouter[global.ty].size as usize,
                    4 * dispatch.params.len(),
                    "{}",
                    dispatch.shader
                );
            }
            naga::AddressSpace::Storage { access } => {
                let bound = dispatch.bindings[binding.binding as usize - 1];
                let stores = access.contains(naga::StorageAccess::STORE);
                assert_eq!(
                    stores,
                    bound.access == Access::ReadWrite,
                    "{} {:?}",
                    dispatch.shader,
                    global.name
                );
            }
            _ => panic!("{}: {:?}", dispatch.shader, global.name),
        }
        let _ = handle;
    }
    for (i, bind) in dispatch.bindings.iter().enumerate() {
        let others = &dispatch.bindings[..i];
        assert!(
            others.iter().all(|o| o.slot != bind.slot || o.access == bind.access),
            "{:?}",
            dispatch.bindings
        );
    }
}

/// Both adapters' plans of every variant.
pub(crate) fn assert_all_variants_consistent(kernel: &Kernel) {
    for variant in kernel.variants() {
        for traits in [GpuTraits::default(), software()] {
            let traits = GpuTraits { subgroup: Some(8), f16: true, ..traits };
            let plan = kernel.gpu(&traits, Some(variant)).unwrap();
            assert_eq!(plan.variant, variant);
            assert!(!plan.dispatches.is_empty());
            plan.dispatches.iter().for_each(assert_consistent);
            let uses_scratch = plan
                .dispatches
                .iter()
                .flat_map(|d| &d.bindings)
                .any(|bind| matches!(bind.slot, Slot::Scratch(_)));
            assert_eq!(uses_scratch, !plan.scratch_lens.is_empty());
        }
    }
}
