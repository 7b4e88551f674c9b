//! Plain questions to one node, answered in order: for comparing replicas, which no cluster client would do.

use std::net::SocketAddr;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::Nanos;
use slotstorm_fabric::Endpoint;

use crate::backend::{LinkEvent, LinkId, Mailbox, World};

/// A connection to a node's real address.
pub(super) struct Line<W: World> {
    world: W,
    mailbox: W::Mailbox,
    link: LinkId,
    incoming: BytesMut,
}

impl<W: World> Line<W> {
    /// Dials; an error says why there is no connection before `deadline`.
    pub async fn dial(world: &W, to: SocketAddr, deadline: Nanos) -> Result<Self, String> {
        let mut mailbox = world.mailbox(Endpoint::Controller);
        let link = mailbox.connect(to);
        match mailbox.next(deadline).await {
            Some(LinkEvent::Connected(_)) => {
                Ok(Self { world: world.clone(), mailbox, link, incoming: BytesMut::new() })
            }
            Some(LinkEvent::Refused(_, why) | LinkEvent::Closed(_, why)) => Err(why),
            Some(LinkEvent::Received(..)) | None => Err("no connection in time".into()),
        }
    }

    /// Sends all questions in one write and answers the replies, in order.
    pub async fn ask(
        &mut self,
        questions: &[Vec<Vec<u8>>],
        patience: Nanos,
    ) -> Result<Vec<BytesFrame>, String> {
        let mut bytes = Vec::new();
        for args in questions {
            bytes.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
            for arg in args {
                bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                bytes.extend_from_slice(arg);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        self.mailbox.send(self.link, bytes);
        let deadline = self.world.now() + patience;
        let mut replies = Vec::with_capacity(questions.len());
        while replies.len() < questions.len() {
            match self.mailbox.next(deadline).await {
                Some(LinkEvent::Received(_, bytes)) => self.incoming.extend_from_slice(&bytes),
                Some(LinkEvent::Closed(_, why) | LinkEvent::Refused(_, why)) => return Err(why),
                Some(LinkEvent::Connected(_)) => {}
                None => return Err("no answer in time".into()),
            }
            while !self.incoming.is_empty() {
                match decode_bytes_mut(&mut self.incoming) {
                    Ok(Some((frame, _, _))) => replies.push(frame),
                    Ok(None) => break,
                    Err(error) => return Err(format!("the reply is not RESP2: {error}")),
                }
            }
        }
        Ok(replies)
    }
}
