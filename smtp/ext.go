package smtp

// Extensions is a set of service extensions that a Server announces and accepts
// parameters of.
type Extensions uint32

const (
	ExtPipelining    Extensions = 1 << iota // RFC 2920
	ExtSize                                 // RFC 1870
	Ext8BitMIME                             // RFC 6152
	ExtSMTPUTF8                             // RFC 6531
	ExtEnhancedCodes                        // RFC 2034
	ExtChunking                             // RFC 3030: BDAT
	ExtBinaryMIME                           // RFC 3030, with ExtChunking only
	ExtDSN                                  // RFC 3461
	ExtRequireTLS                           // RFC 8689, announced over TLS only
	ExtFutureRelease                        // RFC 4865
	ExtDeliverBy                            // RFC 2852
	ExtPriority                             // RFC 6710, MT-PRIORITY
	ExtValidSince                           // RFC 7293, RRVS
	ExtLimits                               // RFC 9422
	ExtNoSoliciting                         // RFC 3865, with Server.NoSoliciting

	// DefaultExtensions are those that ask nothing more of a Handler than to store
	// octets. The others promise something to the sender that only the Handler can
	// keep, so they are announced only when asked for.
	DefaultExtensions = ExtPipelining | ExtSize | Ext8BitMIME | ExtSMTPUTF8 | ExtEnhancedCodes | ExtChunking | ExtLimits
)
