//! Shaders as other languages see them, through naga: what wgpu hands to Vulkan, Metal, DX12 and GL.

use ganomede_kernels::Dispatch;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};

use super::InspectError;

/// A language that a shader can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// WebGPU's; what the project's shaders are written in.
    Wgsl,
    /// Vulkan's, binary.
    Spirv,
    /// Metal Shading Language.
    Msl,
    /// DX12's, shader model 6.2.
    Hlsl,
    /// OpenGL's, 4.30.
    Glsl,
}

/// Every access is taken as written: the trusted shaders of a release guard their own indices.
const UNCHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Unchecked,
    buffer: BoundsCheckPolicy::Unchecked,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

/// The WGSL text of a dispatch with its `override` constants replaced by their values.
pub fn specialise(dispatch: &Dispatch) -> String {
    let mut text = String::with_capacity(dispatch.source.len());
    for line in dispatch.source.lines() {
        let value = line.strip_prefix("override ").and_then(|rest| {
            let (name, ty) = rest.split_once(':')?;
            let (ty, default) = ty.split_once('=')?;
            let given = dispatch.constants.iter().find(|(known, _)| *known == name.trim());
            let written = |value: f64| match ty.trim() {
                "bool" => format!("{};", value != 0.0),
                "u32" => format!("{value}u;"),
                _ => format!("{value};"),
            };
            let value = given.map_or_else(|| default.trim().to_owned(), |&(_, value)| written(value));
            Some(format!("const {name}:{ty}= {value}"))
        });
        text += value.as_deref().unwrap_or(line);
        text.push('\n');
    }
    text
}

fn parse(dispatch: &Dispatch) -> Result<(Module, ModuleInfo), InspectError> {
    let text = specialise(dispatch);
    let failed = |message: String| InspectError::Shader { shader: dispatch.shader, message };
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| failed(e.emit_to_string(&text)))?;
    let info = Validator::new(
        ValidationFlags::all(),
        Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
    )
    .validate(&module)
    .map_err(|e| failed(e.emit_to_string(&text)))?;
    Ok((module, info))
}

/// What a workgroup of a dispatch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workgroup {
    /// Threads along each axis.
    pub size: [u32; 3],
    /// Shared memory of those variables that the entry point uses.
    pub shared_bytes: u32,
}

/// Threads and shared memory of a dispatch, from its text.
///
/// # Errors
/// [`InspectError::Shader`] where naga refuses the text or it has no such entry point.
pub fn workgroup(dispatch: &Dispatch) -> Result<Workgroup, InspectError> {
    let (module, info) = parse(dispatch)?;
    let failed =
        |message: &str| InspectError::Shader { shader: dispatch.shader, message: message.to_owned() };
    let number = module.entry_points.iter().position(|entry| entry.name == dispatch.entry);
    let number = number.ok_or_else(|| failed(&format!("there is no entry point '{}'", dispatch.entry)))?;
    let uses = info.get_entry_point(number);
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| failed(&e.to_string()))?;
    let shared = module.global_variables.iter().filter(|(handle, global)| {
        global.space == naga::AddressSpace::WorkGroup && !uses[*handle].is_empty()
    });
    let shared_bytes = shared.map(|(_, global)| layouter[global.ty].size).sum();
    Ok(Workgroup { size: module.entry_points[number].workgroup_size, shared_bytes })
}

/// SPIR-V words of a dispatch, unchecked as wgpu compiles trusted shaders.
///
/// # Errors
/// [`InspectError::Shader`] where naga refuses the text.
pub fn spirv(dispatch: &Dispatch) -> Result<Vec<u32>, InspectError> {
    let (module, info) = parse(dispatch)?;
    let options = spv::Options {
        lang_version: (1, 5),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let entry =
        spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: dispatch.entry.to_owned() };
    spv::write_vec(&module, &info, &options, Some(&entry)).map_err(|e| failure(dispatch, &e))
}

/// The dispatch's shader in `language`: text, or for [`Language::Spirv`] little-endian words.
///
/// # Errors
/// [`InspectError::Shader`] where naga refuses the text or cannot write it in that language.
pub fn translate(dispatch: &Dispatch, language: Language) -> Result<Vec<u8>, InspectError> {
    let entry = Some((ShaderStage::Compute, dispatch.entry.to_owned()));
    let text = match language {
        Language::Wgsl => {
            parse(dispatch)?;
            specialise(dispatch)
        }
        Language::Spirv => return Ok(spirv(dispatch)?.iter().flat_map(|word| word.to_le_bytes()).collect()),
        Language::Msl => {
            let (module, info) = parse(dispatch)?;
            let options = msl::Options {
                lang_version: (2, 4),
                bounds_check_policies: UNCHECKED,
                zero_initialize_workgroup_memory: false,
                force_loop_bounding: false,
                emit_int_div_checks: false,
                ..msl::Options::default()
            };
            let pipeline = msl::PipelineOptions { entry_point: entry, ..msl::PipelineOptions::default() };
            let written = msl::write_string(&module, &info, &options, &pipeline);
            written.map_err(|e| failure(dispatch, &e))?.0
        }
        Language::Hlsl => {
            let (module, info) = parse(dispatch)?;
            let options = hlsl::Options {
                shader_model: hlsl::ShaderModel::V6_2,
                zero_initialize_workgroup_memory: false,
                restrict_indexing: false,
                force_loop_bounding: false,
                ..hlsl::Options::default()
            };
            let pipeline = hlsl::PipelineOptions { entry_point: entry };
            let mut text = String::new();
            hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&module, &info, None)
                .map_err(|e| failure(dispatch, &e))?;
            text
        }
        Language::Glsl => {
            let (module, info) = parse(dispatch)?;
            let options = glsl::Options {
                version: glsl::Version::Desktop(430),
                zero_initialize_workgroup_memory: false,
                ..glsl::Options::default()
            };
            let pipeline = glsl::PipelineOptions {
                shader_stage: ShaderStage::Compute,
                entry_point: dispatch.entry.to_owned(),
                multiview: None,
            };
            let mut text = String::new();
            glsl::Writer::new(&mut text, &module, &info, &options, &pipeline, UNCHECKED)
                .and_then(|mut writer| writer.write())
                .map_err(|e| failure(dispatch, &e))?;
            text
        }
    };
    Ok(text.into_bytes())
}

fn failure(dispatch: &Dispatch, error: &dyn std::error::Error) -> InspectError {
    InspectError::Shader { shader: dispatch.shader, message: error.to_string() }
}
