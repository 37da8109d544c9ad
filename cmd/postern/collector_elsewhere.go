package main

import (
	"context"
	"errors"
)

func (f *collectorFlags) startRemote() (*source, error) {
	return nil, errors.New("pending")
}

func (f *collectorFlags) startMailbox(context.Context) (*source, error) {
	return nil, errors.New("pending")
}
