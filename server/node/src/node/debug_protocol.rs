//! DEBUG PROTOCOL: a reply of each type, for the tests of client libraries.

use super::client::Client;
use super::{Node, text};
use crate::command::Fault;
use crate::resp::Protocol;

impl Node {
    pub(super) fn debug_protocol(&mut self, client: &Client, name: &[u8]) -> Result<(), Fault> {
        let is_3 = client.protocol == Protocol::Resp3;
        let mut reply = self.reply(client);
        let truth = |value: bool| match (is_3, value) {
            (true, true) => &b"#t\r\n"[..],
            (true, false) => b"#f\r\n",
            (false, true) => b":1\r\n",
            (false, false) => b":0\r\n",
        };
        match &name.to_ascii_lowercase()[..] {
            b"string" => reply.bulk(b"Hello World"),
            b"integer" => reply.int(12345),
            b"double" => reply.double(3.141),
            b"bignum" if is_3 => {
                reply.buffer().extend_from_slice(b"(1234567999999999999999999999999999999\r\n");
            }
            b"bignum" => reply.bulk(b"1234567999999999999999999999999999999"),
            b"null" => reply.null(),
            kind @ (b"array" | b"set") => {
                if kind == b"array" {
                    reply.array(3);
                } else {
                    reply.set(3);
                }
                (0..3).for_each(|number| reply.int(number));
            }
            b"map" => {
                reply.map(3);
                for number in 0..3 {
                    reply.int(number);
                    reply.buffer().extend_from_slice(truth(number == 1));
                }
            }
            b"attrib" => {
                if is_3 {
                    reply.buffer().extend_from_slice(b"|1\r\n");
                    reply.bulk(b"key-popularity");
                    reply.array(2);
                    reply.bulk(b"key:123");
                    reply.int(90);
                }
                reply.bulk(b"Some real reply following the attribute");
            }
            b"push" if is_3 => {
                reply.push(2);
                reply.bulk(b"server-cpu-usage");
                reply.int(42);
                reply.bulk(b"Some real reply following the push reply");
            }
            b"push" => return Err(text("ERR RESP2 is not supported by this command")),
            b"true" => reply.buffer().extend_from_slice(truth(true)),
            b"false" => reply.buffer().extend_from_slice(truth(false)),
            b"verbatim" => reply.verbatim("This is a verbatim\nstring"),
            _ => {
                return Err(text(
                    "ERR Wrong protocol type name. Please use one of the following: \
                     string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
                ));
            }
        }
        Ok(())
    }
}
