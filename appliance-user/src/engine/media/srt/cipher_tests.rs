//! Published vectors of each part, and packets ciphered here by other means than the code under test.

use proptest::prelude::*;

use super::*;
use crate::engine::media::srt::Packet;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

fn wrap(kek: &[u8], keys: &[u8]) -> Vec<u8> {
    let mut wrapped = vec![0; keys.len() + 8];
    match kek.len() {
        16 => AesKw::<Aes128>::new_from_slice(kek)
            .unwrap()
            .wrap_key(keys, &mut wrapped)
            .map(drop),
        24 => AesKw::<Aes192>::new_from_slice(kek)
            .unwrap()
            .wrap_key(keys, &mut wrapped)
            .map(drop),
        _ => AesKw::<Aes256>::new_from_slice(kek)
            .unwrap()
            .wrap_key(keys, &mut wrapped)
            .map(drop),
    }
    .unwrap();
    wrapped
}

/// A key material message as on the wire (3.2.2), in a control packet.
fn message(keys: u8, cipher: u8, key_length: usize, salt: &[u8; 16], wrapped: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xff, 0xff, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    packet.extend([
        0x12,
        0x20,
        0x29,
        keys,
        0,
        0,
        0,
        0,
        cipher,
        0,
        2,
        0,
        0,
        0,
        4,
        (key_length / 4) as u8,
    ]);
    packet.extend(salt);
    packet.extend(wrapped);
    packet
}

fn stored(packet: &[u8]) -> StoredKeyMaterial {
    match Packet::parse(packet) {
        Ok(Packet::Control(control)) => control.key_material().unwrap().store().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn data(packet: &[u8]) -> Data<'_> {
    match Packet::parse(packet) {
        Ok(Packet::Data(data)) => data,
        other => panic!("{other:?}"),
    }
}

const SALT: [u8; 16] = *b"0123456789abcdef";

/// RFC 6070.
#[test]
fn pbkdf2_with_hmac_sha1() {
    let derive = |password: &[u8], salt: &[u8], rounds, length| {
        let mut key = vec![0; length];
        pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut key);
        key
    };
    let short = derive(b"password", b"salt", 4096, 20);
    assert_eq!(short, hex("4b007901b765489abead49d926f721d065a429c1"));
    let long = derive(
        b"passwordPASSWORDpassword",
        b"saltSALTsaltSALTsaltSALTsaltSALTsalt",
        4096,
        25,
    );
    assert_eq!(long, hex("3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"));
}

/// RFC 3394 4.1, 4.2, 4.3 and 4.6.
#[test]
fn key_unwrapping() {
    let data = "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f";
    let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    let cases = [
        (16, 16, "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"),
        (24, 16, "96778b25ae6ca435f92b5b97c050aed2468ab8a17ad84e5d"),
        (32, 16, "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"),
        (
            32,
            32,
            "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21",
        ),
    ];
    for (key_length, data_length, wrapped) in cases {
        let (key, data, wrapped) = (&hex(key)[..key_length], &hex(data)[..data_length], hex(wrapped));
        let unwrap = |wrapped: &[u8]| {
            let mut buffer = [0; MAX_WRAPPED];
            match key_length {
                16 => unwrap_with::<Aes128>(key, wrapped, &mut buffer),
                24 => unwrap_with::<Aes192>(key, wrapped, &mut buffer),
                _ => unwrap_with::<Aes256>(key, wrapped, &mut buffer),
            }
            .map(<[u8]>::to_vec)
        };
        assert_eq!(unwrap(&wrapped), Ok(data.to_vec()));
        let mut other = wrapped.clone();
        other[9] ^= 1;
        assert_eq!(unwrap(&other), Err(Failure::WrongPassphrase));
        assert_eq!(unwrap(&wrapped[..wrapped.len() - 1]), Err(Failure::WrongPassphrase));
    }
}

/// NIST SP 800-38A F.5.2, F.5.4 and F.5.6.
#[test]
fn counter_mode() {
    let clear = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    let block = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap();
    let cases = [
        (
            "2b7e151628aed2a6abf7158809cf4f3c",
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff",
        ),
        (
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "1abc932417521ca24f2b0459fe7e6e0b090339ec0aa6faefd5ccc2c6f4ce8e94",
        ),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5",
        ),
    ];
    for (key, ciphered) in cases {
        let (key, mut buffer) = (hex(key), hex(ciphered));
        match key.len() {
            16 => apply(&Aes128Enc::new_from_slice(&key).unwrap(), block, &mut buffer),
            24 => apply(&Aes192Enc::new_from_slice(&key).unwrap(), block, &mut buffer),
            _ => apply(&Aes256Enc::new_from_slice(&key).unwrap(), block, &mut buffer),
        }
        assert_eq!(buffer, clear);
    }
}

/// The test cases 4, 10 and 16 that NIST SP 800-38D refers to (McGrew and Viega).
#[test]
fn galois_counter_mode() {
    let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
    let additional = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let clear = hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    let cases = [
        (
            16,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            24,
            "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710",
            "2519498e80f1478f37ba55bd6d27618c",
        ),
        (
            32,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    for (length, ciphered, tag) in cases {
        let tag: [u8; TAG] = hex(tag).try_into().unwrap();
        let open = |buffer: &mut [u8], tag: [u8; TAG]| {
            let buffer = buffer.into();
            let (nonce, tag) = (nonce.into(), tag.into());
            match length {
                16 => AesGcm::<Aes128Enc, U12>::new_from_slice(&key[..length])
                    .unwrap()
                    .decrypt_inout_detached(&nonce, &additional, buffer, &tag),
                24 => AesGcm::<Aes192Enc, U12>::new_from_slice(&key[..length])
                    .unwrap()
                    .decrypt_inout_detached(&nonce, &additional, buffer, &tag),
                _ => AesGcm::<Aes256Enc, U12>::new_from_slice(&key[..length])
                    .unwrap()
                    .decrypt_inout_detached(&nonce, &additional, buffer, &tag),
            }
            .is_ok()
        };
        let mut buffer = hex(ciphered);
        assert!(open(&mut buffer, tag));
        assert_eq!(buffer, clear);
        assert!(!open(&mut hex(ciphered), [0; TAG]));
    }
}

/// Whole packets, ciphered with OpenSSL: every cipher and key length, both keys, every dialect, a retransmission.
#[test]
fn packets_of_another_implementation() {
    let lines = include_str!("testdata/openssl.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let mut seen = 0;
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let [kind, length, flag, keys, packet, clear] = fields[..] else {
            panic!("six fields in {line}")
        };
        let (keys, packet, clear) = (hex(keys), hex(packet), hex(clear));
        let (material, data) = (stored(&keys), data(&packet));
        let kek = KeyEncryptingKey::derive(b"correct-horse-battery", &material);
        let (even, odd) = kek.unwrap(&material).unwrap_or_else(|e| panic!("{e}: {kind} {length}"));
        let (right, wrong) = if flag == "1" { (even, odd) } else { (odd, even) };
        let (right, wrong) = (right.unwrap(), wrong.unwrap());
        let mut buffer = Vec::new();
        let opens = |key: &StreamKey, dialect, buffer: &mut Vec<u8>| {
            key.decipher(dialect, &data, buffer).is_ok() && *buffer == clear
        };
        let found: Vec<Dialect> = Dialect::all(right.cipher())
            .filter(|d| opens(&right, *d, &mut buffer))
            .collect();
        let expected = match kind {
            "ctr" | "gcm" => Dialect::default(),
            "gcm-preview" => Dialect { role: 0, preview: true },
            _ => Dialect {
                role: 2,
                preview: false,
            },
        };
        assert_eq!(found, [expected], "{kind} {length}");
        assert!(!opens(&wrong, expected, &mut buffer));
        let other = KeyEncryptingKey::derive(b"another-passphrase", &material).unwrap(&material);
        assert_eq!(other.err(), Some(Failure::WrongPassphrase));
        seen += 1;
    }
    assert_eq!(seen, 24);
}

#[test]
fn nothing_of_an_authentic_packet_may_change_but_the_retransmission_flag() {
    let line = include_str!("testdata/openssl.txt")
        .lines()
        .find(|line| line.starts_with("gcm 32 2 "))
        .expect("a vector");
    let fields: Vec<&str> = line.split(' ').collect();
    let (material, packet) = (stored(&hex(fields[3])), hex(fields[4]));
    let kek = KeyEncryptingKey::derive(b"correct-horse-battery", &material);
    let key = kek.unwrap(&material).unwrap().1.unwrap();
    let mut clear = Vec::new();
    for place in 0..packet.len() {
        for bit in [0x01, 0x04, 0x80] {
            let mut changed = packet.clone();
            changed[place] ^= bit;
            let Ok(Packet::Data(data)) = Packet::parse(&changed) else {
                continue;
            };
            let opened = key.decipher(Dialect::default(), &data, &mut clear).is_ok();
            assert_eq!(opened, (place, bit) == (4, 0x04), "byte {place}, bit {bit:#x}");
        }
    }
    for length in 16..32 {
        let short = data(&packet[..length]);
        assert_eq!(
            key.decipher(Dialect::default(), &short, &mut clear),
            Err(Failure::NotAuthentic)
        );
    }
}

#[test]
fn key_material_of_unknown_ciphers_and_without_salt_is_left_alone() {
    let kek = KeyEncryptingKey::derive(b"correct-horse-battery", &stored(&message(1, 2, 16, &SALT, &[0; 24])));
    let wrapped = wrap(&kek.key[..16], &[7; 16]);
    for (cipher, expected) in [
        (2, None),
        (4, None),
        (0, Some(Failure::UnknownCipher)),
        (9, Some(Failure::UnknownCipher)),
    ] {
        let material = stored(&message(1, cipher, 16, &SALT, &wrapped));
        assert!(kek.is_for(&material));
        assert_eq!(kek.unwrap(&material).err(), expected, "cipher {cipher}");
    }
    let mut saltless = message(1, 2, 16, &SALT, &wrapped);
    saltless[30] = 0;
    saltless.drain(32..48);
    let Ok(Packet::Control(control)) = Packet::parse(&saltless) else {
        panic!("key material")
    };
    assert_eq!(control.key_material().unwrap().store(), None);
}

proptest! {
    #[test]
    fn arbitrary_key_material_is_harmless(
        keys in 1_u8..4,
        cipher in any::<u8>(),
        words in prop_oneof![Just(4_usize), Just(6), Just(8)],
        wrapped in proptest::collection::vec(any::<u8>(), 72),
    ) {
        let count = if keys == 3 { 2 } else { 1 };
        let material = stored(&message(keys, cipher, words * 4, &SALT, &wrapped[..count * words * 4 + 8]));
        let kek = KeyEncryptingKey { salt: SALT, length: words * 4, key: Zeroizing::new([3; 32]) };
        prop_assert_eq!(kek.unwrap(&material).err(), Some(Failure::WrongPassphrase));
    }
}
