//! Fixtures made in temporary folders.
#![allow(dead_code, reason = "each test file uses some of the fixtures")]

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ganomede_datasets::{DataError, Dataset, OpenOptions, Preprocess};
use image::{DynamicImage, GrayImage, ImageFormat, Luma};

pub(crate) fn options(size: usize) -> OpenOptions {
    OpenOptions { preprocess: Preprocess::new(size), ..OpenOptions::default() }
}

pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    Dataset::open(path.to_str().unwrap(), options)
}

/// The message of an error that is the input's fault.
pub(crate) fn refusal<T>(result: Result<T, DataError>) -> String {
    match result {
        Ok(_) => panic!("bad input was accepted"),
        Err(error) => {
            assert!(!error.is_machine_fault(), "{error}");
            error.to_string()
        }
    }
}

/// 16×12, brighter to the right, with `tone` telling images apart.
pub(crate) fn gradient(tone: u8) -> GrayImage {
    GrayImage::from_fn(16, 12, |x, _| Luma([tone.wrapping_add(x as u8 * 8)]))
}

pub(crate) fn save(path: &Path, image: impl Into<DynamicImage>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

/// A flat folder of `n` PNG files.
pub(crate) fn flat(folder: &Path, n: usize) {
    for i in 0..n {
        save(&folder.join(format!("{i:03}.png")), gradient(i as u8));
    }
}

/// A PNG that has lost its second half.
pub(crate) fn truncated_png(path: &Path) {
    let noisy = GrayImage::from_fn(64, 64, |x, y| Luma([(x * 31 + y * 57 + x * y) as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    noisy.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let bytes = bytes.into_inner();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// Signature and header of a gray PNG of any size; the checksum is right.
pub(crate) fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 0, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    png.extend(chunk);
    png.extend(crc.sum().to_be_bytes());
    // The start of pixel data, so that the header is complete.
    png.extend(b"\0\0\0\x01IDAT\0\0\0\0\0");
    png
}

/// An IDX file: header with `sizes`, then `data`.
pub(crate) fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    file.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
    file.extend(data);
    file
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// `n` images of 4×4 whose pixels all equal the image's number, with label number % 3.
pub(crate) fn idx_pair(folder: &Path, prefix: &str, n: u8, zipped: bool) {
    let images = idx(&[u32::from(n), 4, 4], &(0..n).flat_map(|i| [i; 16]).collect::<Vec<_>>());
    let labels = idx(&[u32::from(n)], &(0..n).map(|i| i % 3).collect::<Vec<_>>());
    let pack = |data: Vec<u8>| if zipped { gzip(&data) } else { data };
    let end = if zipped { ".gz" } else { "" };
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(format!("{prefix}-images-idx3-ubyte{end}")), pack(images)).unwrap();
    fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte{end}")), pack(labels)).unwrap();
}

/// A PNG of any bit depth and colour type from its unfiltered scanlines, with a palette if one is given.
pub(crate) fn raw_png(
    [width, height]: [u32; 2],
    depth: u8,
    colour: u8,
    palette: &[[u8; 3]],
    rows: &[Vec<u8>],
) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes()[..], name, data, &crc.sum().to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let mut pixels = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    for row in rows {
        pixels.write_all(&[&[0], &row[..]].concat()).unwrap();
    }
    let mut png = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header)].concat();
    if !palette.is_empty() {
        png.extend(chunk(b"PLTE", &palette.concat()));
    }
    png.extend(chunk(b"IDAT", &pixels.finish().unwrap()));
    png.extend(chunk(b"IEND", b""));
    png
}

/// A little-endian TIFF of 8-bit pages of one size: indices of a palette of `[red, green, blue]` where one is
/// given, else gray.
pub(crate) fn raw_tiff([width, height]: [u32; 2], palette: Option<&[[u8; 3]]>, pages: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"II*\0\0\0\0\0".to_vec();
    let map = file.len() as u32;
    let mut full = vec![[0u8; 3]; 256];
    palette.into_iter().flatten().enumerate().for_each(|(i, colour)| full[i] = *colour);
    for channel in 0..3 {
        full.iter().for_each(|colour| file.extend(u16::to_le_bytes(u16::from(colour[channel]) * 257)));
    }
    let mut link = 4;
    for pixels in pages {
        let strip = file.len() as u32;
        file.extend(pixels);
        file.resize(file.len().next_multiple_of(2), 0);
        let directory = file.len() as u32;
        file[link..link + 4].copy_from_slice(&directory.to_le_bytes());
        // Tag, type (3 short, 4 long), count, value.
        let mut entries = vec![
            (256u16, 4u16, 1u32, width),
            (257, 4, 1, height),
            (258, 3, 1, 8),
            (259, 3, 1, 1),
            (262, 3, 1, if palette.is_some() { 3 } else { 1 }),
            (273, 4, 1, strip),
            (277, 3, 1, 1),
            (278, 4, 1, height),
            (279, 4, 1, pixels.len() as u32),
        ];
        if palette.is_some() {
            entries.push((320, 3, 768, map));
        }
        file.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            file.extend(tag.to_le_bytes());
            file.extend(kind.to_le_bytes());
            file.extend(count.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        link = file.len();
        file.extend([0; 4]);
    }
    file
}
