use super::*;

/// `torch._utils._rebuild_tensor_v2` of a storage of `length` floats.
fn tensor(length: i32, offset: i32, shape: &[i32], stride: &[i32]) -> Vec<u8> {
    let int = |value: i32| [&b"J"[..], &value.to_le_bytes()].concat();
    let tuple = |values: &[i32]| {
        [b"(".to_vec(), values.iter().flat_map(|&v| int(v)).collect(), b"t".to_vec()].concat()
    };
    let text = |t: &str| [&b"X"[..], &(t.len() as u32).to_le_bytes(), t.as_bytes()].concat();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        int(length),
        b"tQ".to_vec(),
        int(offset),
        tuple(shape),
        tuple(stride),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

fn pickle(body: &[u8]) -> Vec<u8> {
    [b"\x80\x02", body, b"."].concat()
}

fn refused(body: &[u8]) -> String {
    read(&pickle(body)).expect_err("this is no state dict")
}

#[test]
fn tensors_dictionaries_lists_and_numbers_are_read() {
    let dict =
        [b"}(X\x01\x00\x00\x00w".to_vec(), tensor(6, 1, &[2, 2], &[1, 2]), b"X\x01\x00\x00\x00cG".to_vec()];
    let body = [
        dict.concat(),
        1.5f64.to_be_bytes().to_vec(),
        b"X\x01\x00\x00\x00l](K\x01M\x02\x00\x8a\x01\xffJ\x03\x00\x00\x00eu".to_vec(),
    ];
    let values = read(&pickle(&body.concat())).unwrap();
    let of = |name: &str| values.get(values.find(values.root, name).unwrap());
    let view = View {
        kind: Kind::F32,
        key: "0".into(),
        length: 6,
        offset: 1,
        shape: vec![2, 2],
        stride: vec![1, 2],
    };
    assert_eq!(of("w"), &Value::Tensor(Box::new(view)));
    assert_eq!(of("c"), &Value::Float(1.5));
    let Value::List(items) = of("l") else { panic!("{:?}", of("l")) };
    let items: Vec<_> = items.iter().map(|id| values.get(*id).clone()).collect();
    assert_eq!(items, [1, 2, -1, 3].map(Value::Int));
    assert_eq!(values.find(values.root, "x"), None);
}

#[test]
fn every_other_global_is_refused_by_its_name() {
    for (body, name) in [
        (&b"cposix\nsystem\nX\x04\x00\x00\x00true\x85R"[..], "posix.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"ctorch\nload\n", "torch.load"),
        (b"ctorch.nn.modules.linear\nLinear\n)\x81", "torch.nn.modules.linear.Linear"),
        (b"\x8c\x05posix\x8c\x06system\x93", "posix.system"),
        // Where nothing calls it, too.
        (b"}cos\nsystem\n0", "os.system"),
    ] {
        let what = refused(body);
        assert!(what.contains(&format!("'{name}'")) && what.contains("nothing is executed"), "{what}");
    }
    // Lines that would break a message.
    assert!(refused(b"c\x1b[31m\nx\n").contains("'[31m.x'"));
}

#[test]
fn views_lie_within_their_storage() {
    assert!(read(&pickle(&tensor(6, 0, &[2, 3], &[3, 1]))).is_ok());
    // Overlapping and repeated elements are views too.
    assert!(read(&pickle(&tensor(4, 0, &[3, 2], &[1, 1]))).is_ok());
    assert!(read(&pickle(&tensor(1, 0, &[1000, 1000], &[0, 0]))).is_ok());
    // Nothing of nothing.
    assert!(read(&pickle(&tensor(0, 5, &[0, 3], &[3, 1]))).is_ok());
    for (length, offset, shape, stride) in [
        (6, 1, &[2, 3][..], &[3, 1][..]),
        (6, 0, &[2, 3], &[4, 1]),
        (0, 0, &[1], &[1]),
        (6, 6, &[1], &[1]),
        (6, 0, &[i32::MAX; 3], &[0; 3]),
        (6, 0, &[2, 2], &[i32::MAX, i32::MAX]),
    ] {
        let what = refused(&tensor(length, offset, shape, stride));
        assert!(what.contains("lies beyond its storage of"), "{what}");
    }
    for (offset, shape, stride) in [(-1, &[1][..], &[1][..]), (0, &[-1], &[1]), (0, &[1], &[-1])] {
        let what = refused(&tensor(6, offset, shape, stride));
        assert!(what.contains("negative"), "{what}");
    }
    assert!(refused(&tensor(6, 0, &[2], &[1, 1])).contains("1 sizes and 2 strides"));
    assert!(refused(&tensor(6, 0, &[1; 17], &[1; 17])).contains("17 sizes"));
}

#[test]
fn what_is_broken_is_said_with_its_place() {
    for (bytes, what) in [
        (&b""[..], "byte 0 of data.pkl: it ends too early"),
        (b"\x80\x02", "byte 2 of data.pkl: it ends too early"),
        (b"\x80\x02X\xff\xff\xff\xffab", "it ends too early"),
        (b"\x80\x09.", "protocol 9"),
        (b"\x80\x02.", "nothing to work on"),
        (b"\x80\x02(.", "nothing to work on"),
        (b"\x80\x02t.", "nothing to work on"),
        (b"\x80\x02h\x05.", "never remembered"),
        (b"\x80\x02]K\x01K\x02s.", "no dictionary"),
        (b"\x80\x02}(K\x01u.", "a key has no value"),
        (b"\x80\x02}K\x01a.", "no list"),
        (b"\x80\x02K\x01)R.", "no function"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01R.", "no tuple"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "other arguments"),
        (b"\x80\x02K\x01Q.", "no storage"),
        (b"\x80\x02K\x01Nb.", "no dictionary"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "no UTF-8"),
        (b"\x80\x02\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01.", "more than 64 bits"),
        (b"\x80\x02I1\n.", "operation 0x49"),
    ] {
        let found = read(bytes).expect_err(what);
        assert!(found.contains(what), "{found}: {what}");
    }
}

#[test]
fn what_refers_to_itself_is_read_once() {
    // A list in itself, and a dictionary of dictionaries of dictionaries, each twice.
    assert!(read(&pickle(b"]q\x00h\x00a")).is_ok());
    let mut body = b"}q\x00".to_vec();
    for i in 1..=200u8 {
        body.extend([b'}', b'q', i, b'(', b'K', 1, b'h', i - 1, b'K', 2, b'h', i - 1, b'u']);
    }
    let values = read(&pickle(&body)).unwrap();
    assert!(matches!(values.get(values.root), Value::Dict(entries) if entries.len() == 2));
}
