// Go's package unique, in the rows of the Rust peers: see ../src/rows.rs, of which this is a translation.
//
// Values die when the garbage collector finds them, so that a row of new values doesn't pay for their end as it goes,
// and the collector may work on other cores meanwhile. There are no handles to be cloned or dropped.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand"
	"os"
	"runtime"
	"sort"
	"sync"
	"time"
	"unique"
)

const (
	length   = 30
	live     = 10_000
	held     = 100_000
	window   = 256
	choices  = 1 << 16
	exponent = 0.99
)

type handle = unique.Handle[string]

var (
	row        = flag.String("row", "", "what to measure")
	threads    = flag.Int("threads", 1, "how many goroutines, each on a thread of its own")
	operations = flag.Int("operations", 0, "how often each of them does it")
	round      = flag.Int64("round", 0, "random numbers depend on it")
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Println(runtime.Version())
		return
	}
	flag.Parse()
	work, there := map[string]func(*member) map[string]float64{
		"hit": func(m *member) map[string]float64 {
			return m.lookUp(uniform(live, *operations, m.stream()))
		},
		"zipf":       func(m *member) map[string]float64 { return m.lookUp(zipf(m.stream())) },
		"hot":        func(m *member) map[string]float64 { return m.lookUp([]int32{0}) },
		"churn":      func(m *member) map[string]float64 { return m.churn(0) },
		"churn-100k": (*member).churn100k,
		"window":     (*member).window,
		"grow":       (*member).million,
	}[*row]
	if !there {
		fmt.Fprintln(os.Stderr, "no row", *row)
		os.Exit(2)
	}
	means := map[string]float64{}
	for _, figures := range onThreads(work) {
		for row, figure := range figures {
			means[row] += figure / float64(*threads)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(means); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// One of those that measure together.
type member struct {
	index   int
	barrier *barrier
	// Keeps the compiler from leaving work out.
	last handle
}

func onThreads(work func(*member) map[string]float64) []map[string]float64 {
	all := make([]map[string]float64, *threads)
	barrier := newBarrier(*threads)
	var done sync.WaitGroup
	for index := range all {
		done.Add(1)
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			all[index] = work(&member{index: index, barrier: barrier})
		}()
	}
	done.Wait()
	return all
}

// Random numbers of its own.
func (m *member) stream() int64 {
	return 1 + int64(m.index)
}

// Waits until all are here, does the work, and waits until all have done theirs.
func (m *member) time(count int, work func()) float64 {
	m.barrier.wait()
	start := time.Now()
	work()
	took := time.Since(start)
	m.barrier.wait()
	return float64(took.Nanoseconds()) / float64(count)
}

func (m *member) lookUp(choices []int32) map[string]float64 {
	text := text(live, 0)
	held := make([]handle, live)
	for index := range held {
		held[index] = unique.Make(key(text, index))
	}
	m.find(text, choices, *operations/4)
	figure := m.time(*operations, func() { m.find(text, choices, *operations) })
	runtime.KeepAlive(held)
	return map[string]float64{*row: figure}
}

func (m *member) find(text string, choices []int32, times int) {
	choice := 0
	for range times {
		m.last = unique.Make(key(text, int(choices[choice])))
		choice++
		if choice == len(choices) {
			choice = 0
		}
	}
}

func (m *member) churn100k() map[string]float64 {
	if m.index == 0 {
		return m.churn(held)
	}
	return m.churn(0)
}

func (m *member) churn(count int) map[string]float64 {
	handles := make([]handle, count)
	others := text(count, 0)
	for index := range handles {
		handles[index] = unique.Make(key(others, index))
	}
	warmUp := *operations / 4
	text := text(warmUp+*operations, m.stream())
	comeAndGo := func(from, to int) {
		for index := from; index < to; index++ {
			m.last = unique.Make(key(text, index))
		}
	}
	comeAndGo(0, warmUp)
	figure := m.time(*operations, func() { comeAndGo(warmUp, warmUp+*operations) })
	runtime.KeepAlive(handles)
	return map[string]float64{*row: figure}
}

func (m *member) window() map[string]float64 {
	text := text(live, 0)
	choices := zipf(m.stream())
	handles := make([]handle, window)
	slide := func(times int) {
		for index := range times {
			handles[index%window] = unique.Make(key(text, int(choices[index%len(choices)])))
		}
	}
	slide(*operations / 4)
	figure := m.time(*operations, func() { slide(*operations) })
	runtime.KeepAlive(handles)
	return map[string]float64{*row: figure}
}

// Grow, look up.
func (m *member) million() map[string]float64 {
	all := *operations
	from, to := all*m.index / *threads, all*(m.index+1) / *threads
	text := text(all, 0)
	choices := uniform(all, all/2, m.stream())
	handles := make([]handle, to-from)
	grow := m.time(to-from, func() {
		for index := range handles {
			handles[index] = unique.Make(key(text, from+index))
		}
	})
	m.find(text, choices, len(choices)/8)
	hit := m.time(len(choices), func() { m.find(text, choices, len(choices)) })
	runtime.KeepAlive(handles)
	return map[string]float64{"grow": grow, "hit-big": hit}
}

// A random text; each key begins one letter later.
func text(count int, stream int64) string {
	random := random(stream)
	letters := make([]byte, count+length)
	for index := range letters {
		letters[index] = byte('0' + random.Intn(64))
	}
	return string(letters)
}

func key(text string, index int) string {
	return text[index : index+length]
}

func random(stream int64) *rand.Rand {
	return rand.New(rand.NewSource(*round<<32 | stream))
}

func uniform(count, choices int, stream int64) []int32 {
	random := random(stream)
	all := make([]int32, choices)
	for index := range all {
		all[index] = random.Int31n(int32(count))
	}
	return all
}

// By Zipf's law, from the sums of all probabilities; the ranks have nothing to do with the order of interning.
// (rand.Zipf takes exponents above 1 only.)
func zipf(stream int64) []int32 {
	sums := make([]float64, live)
	sum := 0.0
	for rank := range sums {
		sum += math.Pow(float64(rank+1), -exponent)
		sums[rank] = sum
	}
	ranked := random(0).Perm(live)
	random := random(stream)
	all := make([]int32, choices)
	for index := range all {
		rank := sort.SearchFloat64s(sums, random.Float64()*sum)
		all[index] = int32(ranked[min(rank, live-1)])
	}
	return all
}

// Lets nobody through until all are here.
type barrier struct {
	mutex   sync.Mutex
	arrived *sync.Cond
	size    int
	waiting int
	turn    int
}

func newBarrier(size int) *barrier {
	barrier := &barrier{size: size}
	barrier.arrived = sync.NewCond(&barrier.mutex)
	return barrier
}

func (b *barrier) wait() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.waiting++
	if b.waiting == b.size {
		b.waiting = 0
		b.turn++
		b.arrived.Broadcast()
		return
	}
	for turn := b.turn; turn == b.turn; {
		b.arrived.Wait()
	}
}
