// Package identity knows who may log in: users and their tokens, how a
// password or a certificate proves one, and how often a stranger may guess.
// Whatever is not proven is nobody, and nobody looks the same whether the
// user is unknown, disabled, or the password is wrong: same reply, same work.
//
// It knows no policy. What an identity may send as is a list of strings that
// it keeps. An identity is "user" or, for one of the user's tokens, "user/token".
package identity
