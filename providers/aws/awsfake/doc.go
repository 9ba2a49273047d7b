// Package awsfake is an endpoint that speaks the wire protocols of EC2 (Query, version 2016-11-15), of the EBS direct APIs (REST) and of STS (Query,
// version 2011-06-15), for tests of what calls them. It keeps the bytes of volumes and snapshots and is strict where AWS is: it verifies signatures and
// checksums, refuses parameters that it does not know, and keeps states, client tokens, limits and eventual consistency. It runs out of capacity,
// throttles, denies and loses answers when it is told to.
//
// Because the project writes it, it proves little alone: clients that the project did not write (Debian's awscli and python3-boto3) drive it in tests, and
// each behaviour names the page that documents it. Where the documentation leaves something open the comment says what was chosen. It is not AWS: what
// passes here is tested against this endpoint only.
//
// Pages are named by their last part: EC2/X is https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_X.html, EBS/X is
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_X.html, STS/X is https://docs.aws.amazon.com/STS/latest/APIReference/API_X.html, and
// UG/x is https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/x.html.
//
// Any number of clients may use one Server at once.
package awsfake
