//! How fields become bytes, and the macros by which a type is declared once: its Rust type, its codec and its schema.
//!
//! Everything is little-endian and packed. A text or byte string is a `u32` length and its bytes, a choice is one byte and the
//! fields of what was chosen, an `Option` is one byte, 0 or 1, and then the value. Decoding is total: it ends in a value
//! or a [`DecodeError`], whatever the bytes are, and takes memory in proportion to them.

use crate::MAX_MESSAGE_BYTES;
use crate::schema::Shape;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A datagram without a byte: the sender is broken.
    #[error("the message is empty")]
    Empty,
    /// The sender ignores [`MAX_MESSAGE_BYTES`].
    #[error("the message has {0} bytes, more than {MAX_MESSAGE_BYTES}")]
    TooLarge(usize),
    /// A newer peer sent a message that this side does not know: skip it.
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// A known message with a field that is not as declared: drop it and complain to the sender.
    #[error("message {message}: field {field} {fault}")]
    Field {
        /// The message.
        message: &'static str,
        /// The field, as `Type.field`.
        field: &'static str,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The datagram was cut, or its length prefix lies.
    #[error("ends early")]
    EndsEarly,
    /// A number above, or a text longer than, what the field allows.
    #[error("is {value}, more than {max}")]
    TooBig {
        /// The number, or the length in bytes.
        value: u32,
        /// The most that is allowed.
        max: u32,
    },
    /// A byte that stands for no choice.
    #[error("has no choice {0}")]
    UnknownChoice(u8),
    /// A text that is not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
}

/// No limit of a field's own.
pub(crate) const UNLIMITED: u32 = u32::MAX;

/// The bytes that are left, and where we are for the error's sake.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// `None` until the message type is known.
    pub(crate) message: Option<&'static str>,
    /// The innermost field being read.
    pub(crate) field: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        match bytes.len() {
            0 => Err(DecodeError::Empty),
            length if length > MAX_MESSAGE_BYTES => Err(DecodeError::TooLarge(length)),
            _ => Ok(Self { rest: bytes, message: None, field: "" }),
        }
    }

    fn fail<T>(&self, fault: Fault) -> Result<T, DecodeError> {
        Err(DecodeError::Field { message: self.message.unwrap_or("?"), field: self.field, fault })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => self.fail(Fault::EndsEarly),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A byte string of at most `max` bytes, length first.
    fn bytes(&mut self, max: u32) -> Result<&'a [u8], DecodeError> {
        let length = u32::decode(self, max)?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => self.fail(Fault::EndsEarly),
        }
    }

    /// For a choice byte that no variant has.
    pub(crate) fn unknown_choice<T>(&self, choice: u8) -> Result<T, DecodeError> {
        match self.message {
            None => Err(DecodeError::UnknownType(choice)),
            Some(_) => self.fail(Fault::UnknownChoice(choice)),
        }
    }
}

/// A type that has bytes and a schema.
pub(crate) trait Codec: Sized {
    /// Its schema, from which the TypeScript codec is generated.
    const SHAPE: Shape;
    /// Appends the bytes. A text longer than `max` bytes is cut at a character's end.
    fn encode(&self, out: &mut Vec<u8>, max: u32);
    /// Reads the bytes; `max` is the field's highest number or length.
    fn decode(reader: &mut Reader<'_>, max: u32) -> Result<Self, DecodeError>;
}

macro_rules! unsigned {
    ($($number:ident $shape:ident),*) => {$(
        impl Codec for $number {
            const SHAPE: Shape = Shape::$shape;
            fn encode(&self, out: &mut Vec<u8>, _max: u32) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn decode(reader: &mut Reader<'_>, max: u32) -> Result<Self, DecodeError> {
                let number = Self::from_le_bytes(reader.array()?);
                if u32::from(number) > max {
                    return reader.fail(Fault::TooBig { value: u32::from(number), max });
                }
                Ok(number)
            }
        }
    )*};
}
unsigned!(u8 U8, u16 U16, u32 U32);

macro_rules! signed {
    ($($number:ident $shape:ident),*) => {$(
        impl Codec for $number {
            const SHAPE: Shape = Shape::$shape;
            fn encode(&self, out: &mut Vec<u8>, _max: u32) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn decode(reader: &mut Reader<'_>, _max: u32) -> Result<Self, DecodeError> {
                Ok(Self::from_le_bytes(reader.array()?))
            }
        }
    )*};
}
signed!(i16 I16, i32 I32);

impl Codec for bool {
    const SHAPE: Shape = Shape::Bool;
    fn encode(&self, out: &mut Vec<u8>, _max: u32) {
        out.push(u8::from(*self));
    }
    fn decode(reader: &mut Reader<'_>, max: u32) -> Result<Self, DecodeError> {
        match u8::decode(reader, max)? {
            0 => Ok(false),
            1 => Ok(true),
            other => reader.unknown_choice(other),
        }
    }
}

impl Codec for String {
    const SHAPE: Shape = Shape::Text;
    fn encode(&self, out: &mut Vec<u8>, max: u32) {
        let limit = usize::try_from(max).unwrap_or(usize::MAX).min(MAX_MESSAGE_BYTES);
        let cut = &self[..self.floor_char_boundary(limit)];
        encode_bytes(cut.as_bytes(), out);
    }
    fn decode(reader: &mut Reader<'_>, max: u32) -> Result<Self, DecodeError> {
        match std::str::from_utf8(reader.bytes(max)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => reader.fail(Fault::NotUtf8),
        }
    }
}

impl Codec for Vec<u8> {
    const SHAPE: Shape = Shape::Bytes;
    fn encode(&self, out: &mut Vec<u8>, _max: u32) {
        encode_bytes(self, out);
    }
    fn decode(reader: &mut Reader<'_>, max: u32) -> Result<Self, DecodeError> {
        Ok(reader.bytes(max)?.to_vec())
    }
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // Longer than 4 GiB cannot be sent anyway; the receiver refuses what does not match its length.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).encode(out, UNLIMITED);
    out.extend_from_slice(bytes);
}

impl<T: Codec> Codec for Option<T> {
    const SHAPE: Shape = Shape::Option(&T::SHAPE);
    fn encode(&self, out: &mut Vec<u8>, max: u32) {
        self.is_some().encode(out, UNLIMITED);
        if let Some(value) = self {
            value.encode(out, max);
        }
    }
    fn decode(reader: &mut Reader<'_>, max: u32) -> Result<Self, DecodeError> {
        Ok(if bool::decode(reader, UNLIMITED)? { Some(T::decode(reader, max)?) } else { None })
    }
}

impl<T: Codec + Copy + Default, const N: usize> Codec for [T; N] {
    const SHAPE: Shape = Shape::Array(&T::SHAPE, N);
    fn encode(&self, out: &mut Vec<u8>, max: u32) {
        for value in self {
            value.encode(out, max);
        }
    }
    fn decode(reader: &mut Reader<'_>, max: u32) -> Result<Self, DecodeError> {
        let mut values = [T::default(); N];
        for value in &mut values {
            *value = T::decode(reader, max)?;
        }
        Ok(values)
    }
}

/// The limit in `#[max(...)]`, or none.
macro_rules! limit {
    () => {
        $crate::codec::UNLIMITED
    };
    ($max:expr) => {
        $max
    };
}

/// The first of its arguments: a name to bind the payload of a variant to.
macro_rules! first {
    ($first:ident, $($rest:tt)*) => {
        $first
    };
}

/// A field's schema.
macro_rules! field_shape {
    ($field:ident, $type:ty, [$($doc:expr),*], $max:expr) => {
        $crate::schema::Field {
            name: stringify!($field),
            doc: &[$($doc),*],
            shape: <$type as $crate::codec::Codec>::SHAPE,
            max: $max,
        }
    };
}

/// Declares a struct: fields in the order in which they travel, `#[max(...)]` for the highest number or length.
macro_rules! wire_struct {
    (
        $(#[doc = $doc:expr])* $(#[derive($($derive:ident),*)])?
        pub struct $name:ident {$(
            $(#[doc = $field_doc:expr])* $(#[max($max:expr)])? pub $field:ident: $type:ty,
        )*}
    ) => {
        $(#[doc = $doc])* $(#[derive($($derive),*)])?
        pub struct $name {$( $(#[doc = $field_doc])* pub $field: $type, )*}

        impl $crate::codec::Codec for $name {
            const SHAPE: $crate::schema::Shape = $crate::schema::Shape::Struct(&$crate::schema::Struct {
                name: stringify!($name),
                doc: &[$($doc),*],
                fields: &[$( field_shape!($field, $type, [$($field_doc),*], limit!($($max)?)) ),*],
            });
            fn encode(&self, out: &mut Vec<u8>, _max: u32) {
                $( self.$field.encode(out, limit!($($max)?)); )*
            }
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
                _max: u32,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self {$(
                    $field: {
                        reader.field = concat!(stringify!($name), ".", stringify!($field));
                        $crate::codec::Codec::decode(reader, limit!($($max)?))?
                    },
                )*})
            }
        }
    };
}

/// Declares a number with a meaning of its own.
macro_rules! wire_number {
    (
        $(#[doc = $doc:expr])* $(#[derive($($derive:ident),*)])?
        pub struct $name:ident(pub $type:ty);
    ) => {
        $(#[doc = $doc])* $(#[derive($($derive),*)])?
        pub struct $name(pub $type);

        impl $crate::codec::Codec for $name {
            const SHAPE: $crate::schema::Shape = $crate::schema::Shape::Number(&$crate::schema::Number {
                name: stringify!($name),
                doc: &[$($doc),*],
                shape: <$type as $crate::codec::Codec>::SHAPE,
            });
            fn encode(&self, out: &mut Vec<u8>, max: u32) {
                self.0.encode(out, max);
            }
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
                max: u32,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self(<$type as $crate::codec::Codec>::decode(reader, max)?))
            }
        }
    };
}

/// Declares a choice without payloads: the number before each variant is its byte.
macro_rules! wire_enum {
    (
        $(#[doc = $doc:expr])* $(#[derive($($derive:ident),*)])?
        pub enum $name:ident {$(
            $(#[doc = $variant_doc:expr])* $tag:literal $(#[$default:ident])? $variant:ident,
        )*}
    ) => {
        $(#[doc = $doc])* $(#[derive($($derive),*)])?
        pub enum $name {$( $(#[doc = $variant_doc])* $(#[$default])? $variant, )*}

        impl $crate::codec::Codec for $name {
            const SHAPE: $crate::schema::Shape = $crate::schema::Shape::Enum(&$crate::schema::Enum {
                name: stringify!($name),
                doc: &[$($doc),*],
                variants: &[$( ($tag, stringify!($variant)) ),*],
            });
            fn encode(&self, out: &mut Vec<u8>, _max: u32) {
                out.push(match self { $( Self::$variant => $tag, )* });
            }
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
                max: u32,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match u8::decode(reader, max)? {
                    $( $tag => Ok(Self::$variant), )*
                    other => reader.unknown_choice(other),
                }
            }
        }
    };
}

/// Declares a choice with payloads: the number before each variant is its byte, which the fields follow.
macro_rules! wire_union {
    (
        $(#[doc = $doc:expr])* $(#[derive($($derive:ident),*)])?
        pub enum $name:ident {$(
            $(#[doc = $variant_doc:expr])*
            $tag:literal $variant:ident
            $( ( $(#[max($value_max:expr)])? $value:ty ) )?
            $( {$(
                $(#[doc = $field_doc:expr])* $(#[max($max:expr)])? $field:ident: $type:ty,
            )*} )?,
        )*}
    ) => {
        $(#[doc = $doc])* $(#[derive($($derive),*)])?
        pub enum $name {$(
            $(#[doc = $variant_doc])*
            $variant $( ($value) )? $( {$( $(#[doc = $field_doc])* $field: $type, )*} )?,
        )*}

        impl $crate::codec::Codec for $name {
            const SHAPE: $crate::schema::Shape = $crate::schema::Shape::Union(&$crate::schema::Union {
                name: stringify!($name),
                doc: &[$($doc),*],
                variants: &[$(
                    $crate::schema::Variant {
                        tag: $tag,
                        name: stringify!($variant),
                        doc: &[$($variant_doc),*],
                        fields: &[
                            $( $crate::schema::Field {
                                name: "value",
                                doc: &[],
                                shape: <$value as $crate::codec::Codec>::SHAPE,
                                max: limit!($($value_max)?),
                            } )?
                            $( $( field_shape!($field, $type, [$($field_doc),*], limit!($($max)?)) ),* )?
                        ],
                    }
                ),*],
            });
            fn encode(&self, out: &mut Vec<u8>, _max: u32) {
                match self {$(
                    Self::$variant $( (first!(payload, $value)) )? $( {$( $field ),*} )? => {
                        out.push($tag);
                        $( <$value as $crate::codec::Codec>::encode(payload, out, limit!($($value_max)?)); )?
                        $( $( $field.encode(out, limit!($($max)?)); )* )?
                    }
                )*}
            }
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
                max: u32,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match u8::decode(reader, max)? {
                    $(
                        $tag => {
                            reader.message.get_or_insert(stringify!($variant));
                            Ok(Self::$variant
                                $( ({
                                    reader.field = concat!(stringify!($variant), ".value");
                                    <$value as $crate::codec::Codec>::decode(reader, limit!($($value_max)?))?
                                }) )?
                                $( {$(
                                    $field: {
                                        reader.field = concat!(stringify!($variant), ".", stringify!($field));
                                        $crate::codec::Codec::decode(reader, limit!($($max)?))?
                                    },
                                )*} )?
                            )
                        }
                    )*
                    other => reader.unknown_choice(other),
                }
            }
        }
    };
}

pub(crate) use {field_shape, first, limit, wire_enum, wire_number, wire_struct, wire_union};
